/**
 * What `request` gives for the numbers from `begin` to below `end`, in order. While one is used, `ahead` of the next are on their way;
 * with 0 each is requested when it is asked for.
 */
export async function* readAhead<T>(
  { begin, end, ahead }: { begin: number; end: number; ahead: number },
  request: (k: number) => Promise<T>,
): AsyncGenerator<T, undefined> {
  const waiting: Promise<T>[] = [];
  let next = begin;
  for (let k = begin; k < end; k++) {
    while (next < end && next <= k + ahead) {
      const promise = request(next++);
      promise.catch(() => {}); // thrown when its turn comes, and by then not new to Node
      waiting.push(promise);
    }
    yield await (waiting.shift() as Promise<T>);
  }
}
