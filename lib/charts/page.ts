import { createHash } from "node:crypto";
import { Markup, markup } from "./markup.js";
import { CHART_STYLE } from "./style.js";

/**
 * A page that is one file. Its policy forbids the browser every request and every script but its own, whatever the page is made to
 * hold.
 */
export function page(
  { title, style, script }: { title: string; style: string; script?: string },
  body: Markup,
): string {
  const hash = script && createHash("sha256").update(script).digest("base64");
  const scripts = hash ? ` script-src 'sha256-${hash}';` : "";
  const policy = `default-src 'none'; img-src data:; style-src 'unsafe-inline';${scripts} base-uri 'none'; form-action 'none'`;
  return `${markup`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${title}</title>
<style>${new Markup(CHART_STYLE + style)}
</style>
</head>
<body>
${body}
${script && markup`<script>${new Markup(script)}</script>`}
</body>
</html>`}
`;
}
