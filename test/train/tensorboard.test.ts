import { suite } from "uvu";
import * as assert from "uvu/assert";
import { eventFileHeader, scalarEvent } from "../../lib/train/tensorboard.js";

const tensorboard = suite("tensorboard");

/**
 * A file that tensorboard 2.21's EventFileLoader read, and stopped reading when a bit was flipped: version, SessionLog.START at step 4, then train/loss 1.5 and
 * test/accuracy 0.25 at step 300 and time 1700000000.5.
 */
const READ_BY_TENSORBOARD =
  "GgAAAAAAAAASm9gtCQAAIED8VNlBEAAaDWJyYWluLkV2ZW50OjK/imkdDwAAAAAAAABtUysJCQAAIED8VNlBEAQ6AggBfHvvBzcAAAAAAAAA5+jKWQkAACBA/FTZQRCsAiopChEKCnRyYWluL2xvc3MVAADAPwoUCg10ZXN0L2FjY3VyYWN5FQAAgD61U6Os";

tensorboard("event files have the bytes that TensorBoard was seen to read", () => {
  const time = 1700000000.5;
  const scalars = new Map([
    ["train/loss", 1.5],
    ["test/accuracy", 0.25],
  ]);
  const file = Buffer.concat([eventFileHeader(time, 4), scalarEvent(time, 300, scalars)]);
  assert.is(file.toString("base64"), READ_BY_TENSORBOARD);
});

tensorboard.run();
