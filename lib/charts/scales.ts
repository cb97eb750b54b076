export interface Range {
  from: number;
  to: number;
}

/** How values stand along an axis. */
export interface Scale {
  /** From 0 at the axis' begin to 1 at its end. */
  place(value: number): number;
  ticks: number[];
}

export function logarithmic({ from, to }: Range): Scale {
  const place = (value: number) => Math.log(value / from) / Math.log(to / from);
  return { place, ticks: powers(from, to) };
}

export function linear({ from, to }: Range): Scale {
  return { place: (value) => (value - from) / (to - from), ticks: evenTicks(from, to) };
}

/** Powers of ten, or, where there are fewer than two, also twos and fives. */
function powers(from: number, to: number): number[] {
  const within = (steps: readonly number[]) => {
    const found: number[] = [];
    for (let power = Math.floor(Math.log10(from)); power <= Math.log10(to); power++)
      for (const step of steps) {
        const value = Number(`${step}e${power}`);
        if (value >= from && value <= to) found.push(value);
      }
    return found;
  };
  const decades = within([1]);
  return decades.length >= 2 ? decades : within([1, 2, 5]);
}

/** Three to seven multiples of 1, 2 or 5 times a power of ten. */
function evenTicks(from: number, to: number): number[] {
  const power = 10 ** Math.floor(Math.log10((to - from) / 3));
  const step = power * ([5, 2].find((factor) => (to - from) / (factor * power) >= 3) ?? 1);
  const first = Math.ceil(from / step);
  const count = Math.floor(to / step) - first + 1;
  return Array.from({ length: count }, (_, k) => Number(((first + k) * step).toPrecision(12)));
}
