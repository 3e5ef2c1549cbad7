// Images of an export, drawn from a seed or decoded from your own codes:
//   node sample.mjs ../../exports/vae --n 64 --seed 0 --out samples.pgm
//   node sample.mjs ../../exports/vae --codes codes.bin --out images.bin
// A .bin is raw float32: codes (n, *code_shape), noise (n, noise_width) with --noise, images (n, C, H, W). Any other
// file is a sheet to look at, PGM if grey, PPM if colour. A conditional model needs --label, the name of a class, and a
// guided one takes --guidance.
import { createHash } from 'node:crypto'
import { readFile, writeFile } from 'node:fs/promises'
import { parseArgs } from 'node:util'
import * as ort from 'onnxruntime-node'

process.on('uncaughtException', (error) => { console.error(`error: ${error.message}`); process.exit(1) })
const text = (value) => ({ type: 'string', default: value })
const given = { codes: text(), noise: text(), label: text() }
const options = { n: text('64'), seed: text('0'), out: text('samples.pgm'), guidance: text('1'), ...given }
const { values, positionals: [folder] } = parseArgs({ options, allowPositionals: true })
const { n, seed, out, codes, noise, label, guidance } = values

const manifest = JSON.parse(await readFile(`${folder}/manifest.json`))
const card = JSON.parse(await read('card.json'))
const [graph, input, shape] = codes
  ? ['decoder', 'z', card.code_shape ?? [card.latent]]
  : ['generator', 'noise', [card.noise.width]]
const session = await ort.InferenceSession.create(await read(`${graph}.onnx`))
const file = codes ?? noise, width = shape.reduce((size, each) => size * each), classes = card.label?.classes ?? []
const rows = file ? new Float32Array(Uint8Array.from(await readFile(file)).buffer) : normal(+seed, n * width)
if (!rows.length || rows.length % width) throw new Error(`rows must be ${width} wide, but got ${rows.length} numbers`)
const count = rows.length / width, index = classes.indexOf(label), { inputNames } = session
if (inputNames.includes('label') && index < 0)
  throw new Error(`--label must be one of ${classes.join(', ')}, but got ${label}`)
const all = {
  [input]: new ort.Tensor('float32', rows, [count, ...shape]),
  label: new ort.Tensor('int64', new BigInt64Array(count).fill(BigInt(index)), [count]),
  guidance: new ort.Tensor('float32', new Float32Array(count).fill(+guidance), [count]),
}
const inputs = Object.fromEntries(inputNames.map((name) => [name, all[name]]))
const { image } = await session.run(inputs, ['image'])
await writeFile(out, out.endsWith('.bin') ? image.data : sheet(image))

// A file of the export, if it is what the manifest names.
async function read(name) {
  const named = manifest.files[name]
  if (!named) throw new Error(`${folder} must hold ${name}, but its manifest names ${Object.keys(manifest.files)}`)
  const content = await readFile(`${folder}/${name}`)
  const found = createHash('sha256').update(content).digest('hex')
  if (found !== named.sha256) throw new Error(`${name} must have the SHA-256 ${named.sha256}, but has ${found}`)
  return content
}

// Standard normal numbers, the same for a seed everywhere: Box and Muller's transform of splitmix32.
function normal(state, count) {
  const uniform = () => {
    let bits = (state = (state + 0x9e3779b9) | 0)
    bits = Math.imul(bits ^ (bits >>> 16), 0x21f0aaad)
    bits = Math.imul(bits ^ (bits >>> 15), 0x735a2d97)
    return (((bits ^ (bits >>> 15)) >>> 0) + 0.5) / 2 ** 32 // in (0, 1)
  }
  const radius = () => Math.sqrt(-2 * Math.log(uniform()))
  return Float32Array.from({ length: count }, () => radius() * Math.cos(2 * Math.PI * uniform()))
}

// The images in rows, as a PGM or a PPM, which have no alpha: the second or fourth channel is left out.
function sheet({ data, dims: [n, channels, height, width] }) {
  const planes = channels < 3 ? 1 : 3
  const columns = Math.ceil(Math.sqrt(n)), across = columns * width, down = Math.ceil(n / columns) * height
  const pixels = Buffer.alloc(across * down * planes, 255)
  data.forEach((value, at) => {
    const [x, y, channel, index] = [at, at / width, at / width / height, at / width / height / channels].map(Math.floor)
    const top = Math.floor(index / columns) * height + (y % height), left = (index % columns) * width + (x % width)
    if (channel % channels < planes)
      pixels[(top * across + left) * planes + (channel % channels)] = Math.round(value * 255)
  })
  return Buffer.concat([Buffer.from(`P${planes === 1 ? 5 : 6} ${across} ${down} 255\n`), pixels])
}
