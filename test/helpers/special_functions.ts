/** The error function in float64, to a few units in the last place: by series near 0, by continued fraction in the tails. */
const SQRT_PI = Math.sqrt(Math.PI);

export function erf(x: number): number {
  if (Number.isNaN(x) || x === 0) return x;
  if (Math.abs(x) < 2) return series(x);
  return x > 0 ? 1 - tail(x) : tail(-x) - 1;
}

export function erfc(x: number): number {
  if (Number.isNaN(x)) return x;
  if (x >= 2) return tail(x);
  if (x >= 0.5) return middle(x);
  return 1 - erf(x);
}

/** 2 / sqrt(pi) e^(-x^2) sum 2^n x^(2n + 1) / (2n + 1)!!: all terms of one sign. */
function series(x: number): number {
  let term = x;
  let sum = x;
  for (let n = 1; Math.abs(term) > 1e-18 * Math.abs(sum); n++) {
    term *= (2 * x * x) / (2 * n + 1);
    sum += term;
  }
  return (2 / SQRT_PI) * squareExp(x) * sum;
}

/** erfc for x >= 2: e^(-x^2) / sqrt(pi) 1 / (x + (1/2) / (x + 1 / (x + (3/2) / ...))), from the inside out. */
function tail(x: number): number {
  if (x > 30) return 0;
  let below = x;
  for (let n = 160; n >= 1; n--) below = x + n / 2 / below;
  return squareExp(x) / (SQRT_PI * below);
}

/** erfc on [0.5, 2]: Taylor's series of the tail at 2, stepped down, would lose less than 1 - erf does. */
function middle(x: number): number {
  // erfc(x) = erfc(2) + 2 / sqrt(pi) integral of e^(-t^2) over [x, 2]; 20-point Gauss-Legendre on four pieces
  const width = (2 - x) / 4;
  let integral = 0;
  for (let piece = 0; piece < 4; piece++) {
    const centre = x + (piece + 0.5) * width;
    for (const [node, weight] of GAUSS)
      for (const sign of [-1, 1]) integral += weight * squareExp(centre + (sign * node * width) / 2);
  }
  return tail(2) + (2 / SQRT_PI) * integral * (width / 2);
}

/** e^(-x^2), with the rounding error of x^2 put back. */
function squareExp(x: number): number {
  const top = Math.fround(x);
  return Math.exp(-top * top) * Math.exp((top - x) * (top + x));
}

/** Nodes and weights of 20-point Gauss-Legendre quadrature, by Newton's method on the Legendre polynomial. */
const GAUSS: [node: number, weight: number][] = Array.from({ length: 10 }, (_, k) => {
  let x = Math.cos((Math.PI * (k + 0.75)) / 20.5);
  let slope = 0;
  for (let step = 0; step < 8; step++) {
    let [before, p] = [1, x];
    for (let n = 2; n <= 20; n++) [before, p] = [p, ((2 * n - 1) * x * p - (n - 1) * before) / n];
    slope = (20 * (before - x * p)) / (1 - x * x);
    x -= p / slope;
  }
  return [x, 2 / ((1 - x * x) * slope * slope)];
});

export function normalCdf(x: number): number {
  return 0.5 * erfc(-x * Math.SQRT1_2);
}
