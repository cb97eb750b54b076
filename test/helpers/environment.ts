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

/** Those of `all` that a share "k/n" in an environment variable picks: the k-th of every n. All where it is not set. */
export function shareOf<T>(variable: string, all: readonly T[]): readonly T[] {
  const text = process.env[variable];
  if (!text) return all;
  const [k, n] = text.split("/").map(Number);
  if (!(Number.isInteger(k) && Number.isInteger(n) && k >= 1 && k <= n))
    throw new Error(`${variable} is ${text}; expected k/n with 1 <= k <= n`);
  return all.filter((_, index) => index % n === k - 1);
}
