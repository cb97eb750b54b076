import { type Markup, markup } from "./markup.js";
import type { Scale } from "./scales.js";

const WIDTH = 360;
const HEIGHT = 260;
const MARGIN = { left: 52, right: 10, top: 10, bottom: 38 } as const;

export interface Frame {
  /** What the picture is, for those who do not see it. */
  label: string;
  xTitle: string;
  yTitle: string;
  xTicks?: readonly number[];
  /** How ticks of the vertical axis read. */
  yText?: (value: number) => string;
}

/** An SVG frame with two axes. */
export class Axes {
  readonly #x: Scale;
  readonly #y: Scale;

  constructor(x: Scale, y: Scale) {
    this.#x = x;
    this.#y = y;
  }

  x(value: number): number {
    return MARGIN.left + this.#x.place(value) * (WIDTH - MARGIN.right - MARGIN.left);
  }
  y(value: number): number {
    const bottom = HEIGHT - MARGIN.bottom;
    return bottom + this.#y.place(value) * (MARGIN.top - bottom);
  }

  /** A line through points of the axes' units. */
  line(points: readonly (readonly [number, number])[], className: string, attributes?: Markup): Markup {
    const at = points.map(([x, y]) => `${round(this.x(x))},${round(this.y(y))}`).join(" ");
    return markup`<polyline class="${className}" points="${at}"${attributes && markup` ${attributes}`}/>`;
  }

  /** The whole picture: grid, labels, and what is drawn on it. */
  svg({ label, xTitle, yTitle, xTicks = this.#x.ticks, yText = short }: Frame, body: Markup[]): Markup {
    const [bottom, right] = [HEIGHT - MARGIN.bottom, WIDTH - MARGIN.right];
    const vertical = xTicks.map((value) => {
      const x = round(this.x(value));
      return markup`<path class="grid" d="M${x} ${MARGIN.top}V${bottom}"/><text x="${x}" y="${bottom + 14}" text-anchor="middle">${short(value)}</text>`;
    });
    const horizontal = this.#y.ticks.map((value) => {
      const y = this.y(value);
      return markup`<path class="grid" d="M${MARGIN.left} ${round(y)}H${right}"/><text x="${MARGIN.left - 5}" y="${round(y + 4)}" text-anchor="end">${yText(value)}</text>`;
    });
    return markup`<svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${label}">
${vertical}
${horizontal}
<text x="${(MARGIN.left + right) / 2}" y="${HEIGHT - 6}" text-anchor="middle">${xTitle}</text>
<text transform="translate(12 ${(MARGIN.top + bottom) / 2}) rotate(-90)" text-anchor="middle">${yTitle}</text>
${body}
</svg>`;
  }
}

function short(value: number): string {
  const size = Math.abs(value);
  return size >= 1e5 || (size < 1e-3 && size > 0) ? value.toExponential().replace("e+", "e") : String(value);
}

/** To a tenth of a unit of the picture. */
export function round(value: number): number {
  return Math.round(value * 10) / 10;
}
