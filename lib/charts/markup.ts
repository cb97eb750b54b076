/** HTML and SVG that cannot be broken out of: all that a template inserts is escaped, unless it is markup itself. */
export class Markup {
  constructor(private readonly text: string) {}

  toString(): string {
    return this.text;
  }
}

/** Lists are inserted item after item, `undefined` and `false` as nothing. */
export type Insert = Markup | string | number | undefined | false | readonly Insert[];

/** Tag of templates. Inserts stand between tags or within the quotes of an attribute. */
export function markup(parts: TemplateStringsArray, ...inserts: Insert[]): Markup {
  return new Markup(parts.reduce((text, part, k) => text + written(inserts[k - 1]) + part));
}

function written(insert: Insert): string {
  if (insert === undefined || insert === false) return "";
  if (insert instanceof Markup) return insert.toString();
  if (Array.isArray(insert)) return insert.map(written).join("\n");
  return escapeText(String(insert));
}

function escapeText(text: string): string {
  return text
    .replaceAll("&", "&amp;")
    .replaceAll("<", "&lt;")
    .replaceAll(">", "&gt;")
    .replaceAll('"', "&quot;")
    .replaceAll("'", "&#39;");
}
