/** A comma list in an environment variable that picks some of `all`; undefined where it is not set. @throws for another name */
export function chosen<T extends string>(variable: string, all: readonly T[]): readonly T[] | undefined {
  const text = process.env[variable];
  if (!text) return undefined;
  return text.split(",").map((word) => {
    const found = all.find((name) => name === word.trim());
    if (found === undefined) throw new Error(`${variable} names ${word}, which is none of ${all.join(", ")}`);
    return found;
  });
}
