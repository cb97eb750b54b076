import { type DataSource, loadDataset } from "../data/index.js";
import { FileError } from "../util/errors.js";
import type { Checkpoint } from "./checkpoint.js";

/**
 * The data set of a checkpoint's run, or another one that its model can be asked about.
 * @param path of the checkpoint, for errors
 * @throws {FileError} {ConfigError} if the data set does not load, or has other classes or channels
 */
export async function loadDataOf(
  path: string,
  { config, model }: Checkpoint,
  name = config.data,
): Promise<DataSource> {
  const data = await loadDataset(name);
  if (data.classes.length !== model.numClasses || data.test.channels !== model.inChannels)
    throw new FileError(
      "loadDataOf",
      `${path} was trained on other data than ${data.name}`,
      `${model.numClasses} classes, ${model.inChannels} channels`,
      `${data.classes.length} and ${data.test.channels}`,
    );
  return data;
}
