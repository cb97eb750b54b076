/** An SVG frame with two logarithmic axes. */
export interface Range {
  from: number;
  to: number;
}

const WIDTH = 360;
const HEIGHT = 260;
const MARGIN = { left: 52, right: 10, top: 10, bottom: 38 } as const;

/** The values, with a little room around them. */
export function rangeOf(values: readonly number[], room = 1.3): Range {
  return { from: Math.min(...values) / room, to: Math.max(...values) * room };
}

export class LogAxes {
  readonly #x: Range;
  readonly #y: Range;

  constructor(x: Range, y: Range) {
    this.#x = x;
    this.#y = y;
  }

  x(value: number): number {
    return place(value, this.#x, MARGIN.left, WIDTH - MARGIN.right);
  }
  y(value: number): number {
    return place(value, this.#y, HEIGHT - MARGIN.bottom, MARGIN.top);
  }

  /** A line through points of the axes' units. */
  line(points: readonly (readonly [number, number])[], className: string): string {
    const at = points.map(([x, y]) => `${round(this.x(x))},${round(this.y(y))}`).join(" ");
    return `<polyline class="${className}" points="${at}"/>`;
  }

  /** The whole picture: grid, labels, and what is drawn on it. */
  svg(label: string, xTitle: string, yTitle: string, body: string, xTicks = ticks(this.#x)): string {
    const [bottom, right] = [HEIGHT - MARGIN.bottom, WIDTH - MARGIN.right];
    const vertical = xTicks.map(
      (value) =>
        `<path class="grid" d="M${round(this.x(value))} ${MARGIN.top}V${bottom}"/>` +
        `<text x="${round(this.x(value))}" y="${bottom + 14}" text-anchor="middle">${short(value)}</text>`,
    );
    const horizontal = ticks(this.#y).map(
      (value) =>
        `<path class="grid" d="M${MARGIN.left} ${round(this.y(value))}H${right}"/>` +
        `<text x="${MARGIN.left - 5}" y="${round(this.y(value) + 4)}" text-anchor="end">${short(value)}</text>`,
    );
    return [
      `<svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${escapeText(label)}">`,
      ...vertical,
      ...horizontal,
      `<text x="${(MARGIN.left + right) / 2}" y="${HEIGHT - 6}" text-anchor="middle">${xTitle}</text>`,
      `<text transform="translate(12 ${(MARGIN.top + bottom) / 2}) rotate(-90)" text-anchor="middle">${yTitle}</text>`,
      body,
      "</svg>",
    ].join("\n");
  }
}

function place(value: number, { from, to }: Range, begin: number, end: number): number {
  return begin + (Math.log(value / from) / Math.log(to / from)) * (end - begin);
}

/** Powers of ten, or, where there are fewer than two, also twos and fives. */
function ticks({ from, to }: Range): number[] {
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

function short(value: number): string {
  return value >= 1e5 || value < 1e-3 ? value.toExponential().replace("e+", "e") : String(value);
}

export function round(value: number): number {
  return Math.round(value * 10) / 10;
}

export function escapeText(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll('"', "&quot;");
}
