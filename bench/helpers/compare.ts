import b from "benny";

export interface Case {
  name: string;
  run(): void;
}

/**
 * Times cases one after the other in this process and prints, for each, the median time of a call in milliseconds, nanoseconds
 * per element and how many times longer it takes than the first.
 * @param elements what one call works on, in elements
 */
export async function compare(title: string, elements: number, cases: readonly Case[]): Promise<void> {
  const summary = await b.suite(
    title,
    ...cases.map(({ name, run }) => b.add(name, run, { minSamples: 20, maxTime: 1 })),
  );
  const medians = summary.results.map((result) => result.details.median * 1000);
  console.log(`\n${title}`);
  summary.results.forEach(({ name }, k) => {
    const cells = [
      name.padEnd(20),
      `${medians[k].toFixed(3).padStart(10)} ms`,
      `${((medians[k] * 1e6) / elements).toFixed(2).padStart(9)} ns/element`,
      `${(medians[k] / medians[0]).toFixed(2).padStart(8)} x`,
    ];
    console.log(`  ${cells.join(" ")}`);
  });
}
