import { z } from "zod";
import { parseRandAugment } from "./rand_augment_policy.js";

const share = z.number().min(0).max(1);
const range = (value: z.ZodNumber) =>
  z.tuple([value, value]).refine(([low, high]) => low <= high, "expected [low, high] with low <= high");

/**
 * Random changes to training images, as in timm's recipe. All are off by default. In this order: crop, shift, flip, RandAugment or
 * colour jitter (RandAugment wins), erasing; then mixing over the batch.
 */
export const augmentSchema = z.strictObject({
  /** Cut out a random part (share of the area, aspect ratio) and resize it to the image size. */
  resizedCrop: z
    .strictObject({
      scale: range(share.positive()).default([0.08, 1]),
      ratio: range(z.number().positive()).default([3 / 4, 4 / 3]),
    })
    .optional(),
  /** The filter of the resized crop, and of RandAugment where it moves pixels; `random` chooses one of the two each time. */
  interpolation: z.enum(["bilinear", "bicubic", "random"]).default("bicubic"),
  /** Move by up to this many pixels in each direction, filled with black: a random crop of the padded image, for small ones. */
  shift: z.number().int().min(0).default(0),
  /** Probability of a mirrored image, left to right. */
  flip: share.default(0),
  /** Such as rand-m9-mstd0.5-inc1: operations and magnitudes drawn per image. */
  randAugment: z
    .string()
    .superRefine((text, context) => {
      try {
        parseRandAugment(text);
      } catch (error) {
        context.addIssue({ code: "custom", message: (error as Error).message });
      }
    })
    .optional(),
  /** Brightness, contrast and saturation change by factors of up to 1 +- this. */
  colorJitter: z.number().min(0).default(0),
  /** Probability of filling a random rectangle with noise (pixel), one colour of noise (rand) or the mean colour (const). */
  erase: share.default(0),
  eraseMode: z.enum(["pixel", "rand", "const"]).default("pixel"),
  /** Beta parameters of mixing two images by weight (mixup) and by a pasted rectangle (cutmix); 0 for none. */
  mixup: z.number().min(0).default(0),
  cutmix: z.number().min(0).default(0),
  /** Probability that a batch is mixed, and, with both kinds on, that it is by cutmix. */
  mixProbability: share.default(1),
  mixSwitch: share.default(0.5),
});

export type AugmentSpec = z.output<typeof augmentSchema>;
