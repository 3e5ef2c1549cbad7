// Standard normal noise and labels by seed: the same as of latentmill.runtime.noise and labels, so that a seed draws the
// same image in a browser as in Python. numpy's SeedSequence makes a key of the seed, Philox bits, and the quantile
// function noise.

const WORD = (1n << 64n) - 1n;

/** Rows of `width` floats; the first `categorical` columns are not scaled by `temperature`. */
export function noise(width, seed, temperature = 1, categorical = 0) {
  const found = new Float32Array(width);
  const next = philox(key(BigInt(seed)));
  for (let index = 0, word = 0n; index < width; index++) {
    word = index % 2 ? word >> 32n : next();
    const uniform = (Number(word & 0xffffffffn) + 0.5) * 2 ** -32;
    found[index] = quantile(uniform) * (index < categorical ? 1 : temperature);
  }
  return found;
}

/** The index of a class, drawn by `counts`, the training images of each, from a stream 2^128 draws beyond the noise. */
export function drawnLabel(counts, seed) {
  const total = counts.reduce((sum, count) => sum + BigInt(count), 0n);
  let image = ((philox(key(BigInt(seed)), 1n)() >> 32n) * total) >> 32n; // one of the training images
  return counts.findIndex((count) => (image -= BigInt(count)) < 0n);
}

/** The result of numpy.random.SeedSequence(seed).generate_state(2, uint64), for a seed below 2^128. */
function key(seed) {
  let constant = 0x43b0d7e5;
  const hash = (value, multiplier) => {
    value ^= constant;
    constant = Math.imul(constant, multiplier);
    value = Math.imul(value, constant);
    return value ^ (value >>> 16);
  };
  const mix = (x, y) => {
    const found = (Math.imul(0xca01f9dd, x) - Math.imul(0x4973f715, y)) | 0;
    return found ^ (found >>> 16);
  };
  const pool = [0n, 32n, 64n, 96n].map((shift) => hash(Number((seed >> shift) & 0xffffffffn) | 0, 0x931e8875));
  for (let from = 0; from < 4; from++)
    for (let to = 0; to < 4; to++) if (from !== to) pool[to] = mix(pool[to], hash(pool[from], 0x931e8875));
  constant = 0x8b51f9dd;
  const [a, b, c, d] = pool.map((value) => BigInt(hash(value, 0x58f38ded) >>> 0));
  return [a | (b << 32n), c | (d << 32n)];
}

/** Philox4x64-10 (Salmon et al. 2011), whose counter starts at 1, as numpy's does, after so many `jumps`: a function that
 * gives 64 bits. */
function philox([first, second], jumps = 0n) {
  let counter = 0n;
  let words = [];
  return () => {
    if (!words.length) {
      let [a, b, c, d, k, l] = [++counter, 0n, jumps, 0n, first, second];
      for (let round = 0; round < 10; round++) {
        const [x, y] = [0xd2e7470ee14c6c93n * a, 0xca5a826395121157n * c];
        [a, b, c, d] = [(y >> 64n) ^ b ^ k, y & WORD, (x >> 64n) ^ d ^ l, x & WORD];
        [k, l] = [(k + 0x9e3779b97f4a7c15n) & WORD, (l + 0xbb67ae8584caa73bn) & WORD];
      }
      words = [a, b, c, d];
    }
    return words.shift();
  };
}

/** Of the standard normal distribution, to 1 part in 10^7: algorithm AS 241, PPND7 (Wichura 1988). */
function quantile(uniform) {
  const centred = uniform - 0.5;
  if (Math.abs(centred) <= 0.425) return centred * ratio(0.180625 - centred * centred, CENTRE);
  const distance = Math.sqrt(-Math.log(Math.min(uniform, 1 - uniform)));
  return Math.sign(centred) * (distance <= 5 ? ratio(distance - 1.6, NEAR) : ratio(distance - 5, FAR));
}

// Coefficients of numerator and denominator, of the highest power first.
const CENTRE = [
  [5.910937472e1, 1.5929113202e2, 5.0434271938e1, 3.3871327179],
  [6.7187563600e1, 7.8757757664e1, 1.7895169469e1, 1],
];
const NEAR = [
  [1.7023821103e-1, 1.3067284816, 2.7568153900, 1.4234372777],
  [1.2021132975e-1, 7.3700164250e-1, 1],
];
const FAR = [
  [1.7337203997e-2, 4.2868294337e-1, 3.0812263860, 6.6579051150],
  [1.2258202635e-2, 2.4197894225e-1, 1],
];

const polynomial = (x, coefficients) => coefficients.reduce((total, coefficient) => total * x + coefficient);
const ratio = (x, [above, below]) => polynomial(x, above) / polynomial(x, below);
