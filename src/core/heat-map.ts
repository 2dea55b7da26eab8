/** A matrix of counts as pixels: each row by its own sum, from white to dark blue. For TensorBoard, which takes pictures only. */
export function heatMap(
  rows: readonly (readonly number[])[],
  cellPixels: number,
): { pixels: Uint8Array; height: number; width: number } {
  const [height, width] = [rows.length * cellPixels, (rows[0]?.length ?? 0) * cellPixels];
  const pixels = new Uint8Array(height * width * 3);
  for (let y = 0; y < height; y++) {
    const row = rows[Math.floor(y / cellPixels)]!;
    const sum = row.reduce((a, b) => a + b, 0) || 1;
    for (let x = 0; x < width; x++) {
      const part = row[Math.floor(x / cellPixels)]! / sum;
      pixels.set([255 - 247 * part, 255 - 207 * part, 255 - 148 * part], (y * width + x) * 3);
    }
  }
  return { pixels, height, width };
}
