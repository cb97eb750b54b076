import type { Image } from "../image.js";
import { brightness, color, contrast } from "./colour.js";
import type { Draws } from "./draws.js";

/** Brightness, contrast and saturation times factors from 1 - strength (not below 0) to 1 + strength, in random order. */
export function colorJitter(image: Image, strength: number, draws: Draws): Image {
  const changes = [brightness, contrast, color];
  while (changes.length > 0) {
    const [change] = changes.splice(draws.integer(changes.length), 1);
    image = change(image, draws.between(Math.max(0, 1 - strength), 1 + strength));
  }
  return image;
}
