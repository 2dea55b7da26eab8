/** Mean and standard deviation against the plain formula. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { allocateImageSet } from '../src/data/data-set.js';
import { measureNormalization } from '../src/data/normalization.js';

function setOf(pixels: readonly number[]) {
  const set = allocateImageSet({ count: 1, height: 1, width: pixels.length / 3 });
  set.imagesNHWC.set(pixels);
  return set;
}

test('equals the plain formula, rounded to four digits', () => {
  const pixel = fc.tuple(fc.nat(255), fc.nat(255), fc.nat(255));
  fc.assert(
    fc.property(fc.array(pixel, { minLength: 2, maxLength: 50 }), (pixels) => {
      const { mean, std } = measureNormalization(setOf(pixels.flat()));
      for (let c = 0; c < 3; c++) {
        const values = pixels.map((channels) => channels[c]! / 255);
        const plain = values.reduce((sum, value) => sum + value, 0) / values.length;
        const variance = values.reduce((sum, value) => sum + (value - plain) ** 2, 0) / values.length;
        assert.ok(Math.abs(mean[c]! - plain) <= 0.5001e-4);
        assert.ok(Math.abs(std[c]! - (Math.sqrt(variance) < 0.5e-4 ? 1 : Math.sqrt(variance))) <= 0.5001e-4);
        assert.equal(String(mean[c]).length <= 6, true, `${mean[c]} has at most four digits`);
      }
    }),
  );
});

test('a channel that never varies gets std 1', () => {
  assert.deepEqual(measureNormalization(setOf([255, 0, 51, 255, 255, 51])), { mean: [1, 0.5, 0.2], std: [1, 0.5, 1] });
});
