/** An image in the host's memory: bytes, row by row, channels last. */
export interface Image {
  data: Uint8Array;
  height: number;
  width: number;
  channels: number;
}
