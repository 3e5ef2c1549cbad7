// An exported model in the browser: its files, checked against the manifest, and its graphs in onnxruntime-web.
//
// Images are Float32Array (C, H, W) in [0, 1], codes Float32Array (latent), flat whatever their shape; a batch of them is
// laid out in one array. A conditional model takes a label, the name of a class, for all images of a batch; a graph that
// takes none, because only codes are drawn by label, is not given it.

import { drawnLabel, noise } from "./noise.js";

const ORT = new URL("./ort/", import.meta.url);
const FORMATS = [1, 2];
const LISTED = 12; // classes in an error
// Of format 1, in the words of format 2; latentmill.runtime.format_1 has the whole.
const OUTCOMES = { holds: "pass", broken: "fail", "cannot tell": "inconclusive" };
const PHRASES = [["broken below", "fails below"], ["broken above", "fails above"], ["told apart (", "C2ST accuracy ("]];

/** Open the model at the address `folder`; throws an Error of one line where something is missing or not right. */
export async function openModel(folder, threads) {
  const manifest = JSON.parse(new TextDecoder().decode(await fetched(folder, "manifest.json")));
  if (!FORMATS.includes(manifest.format))
    throw new Error(`manifest.json must have the format ${FORMATS.join(" or ")}, but has ${manifest.format}`);
  const [ort, content] = await Promise.all([openRuntime(threads), read(folder, "card.json", manifest)]);
  const card = inFormat2(JSON.parse(new TextDecoder().decode(content)));
  const model = new Model(folder, manifest, card, ort);
  await Promise.all([model.session("generator"), model.latent && model.session("decoder")]);
  return model;
}

export class Model {
  #turn = Promise.resolve();
  #sessions = {};

  constructor(folder, manifest, card, ort) {
    [this.folder, this.manifest, this.card, this.ort] = [folder, manifest, card, ort];
    this.shape = card.image_shape.map((size) => whole("image_shape", size));
    if (this.shape.length !== 3) throw new Error(`image_shape must be (C, H, W), but is ${this.shape}`);
    this.latent = card.latent === null ? null : whole("latent", card.latent);
    this.codeShape = this.latent && codeShape(card.code_shape ?? [this.latent], this.latent);
    this.explorable = this.latent !== null && !card.codebook; // between two indices into a codebook there is no code
    [this.classes, this.counts] = classes(card.label);
    this.noiseWidth = whole("noise.width", card.noise?.width);
    this.threads = ort.env.wasm.numThreads;
    this.checked = Boolean(globalThis.crypto?.subtle);
    const code = (of, otherwise) => vector(of, this.latent) ?? new Float32Array(this.latent ?? 0).fill(otherwise);
    this.codes = { mean: code(card.codes?.mean, 0), deviation: code(card.codes?.deviation, 1) };
    this.directions = this.latent ? (card.directions ?? []).map((each) => direction(each, this.latent)) : [];
    this.encodes = "encoder.onnx" in manifest.files;
    this.scalable = card.noise.categorical < this.noiseWidth; // whether temperature changes anything
    this.guided = this.takes("generator", "guidance");
  }

  /** Whether the graph of that name has that input, beside its first one. */
  takes(name, input) {
    return Boolean(this.card.files?.[`${name}.onnx`]?.inputs?.includes?.(input));
  }

  /** Codes, one or more in one array -> their images. */
  async decode(z, label = null) {
    if (z.length === 0 || z.length % this.latent)
      throw new Error(`z must be codes of ${this.latent} numbers, but has ${z.length}`);
    const labels = this.#label("decoder", label, z.length / this.latent);
    return (await this.#run("decoder", { z: this.#floats(Float32Array.from(z), this.codeShape), ...labels })).image.data;
  }

  /** An image -> the mean of its code. */
  async encode(image, label = null) {
    const labels = this.#label("encoder", label);
    return (await this.#run("encoder", { image: this.#floats(image, this.shape), ...labels })).mean.data;
  }

  /** The same as Decoder.sample(1, seed, temperature, label=label, guidance=guidance) in Python: {image, z, label}.
   *
   * Without a label, one is drawn by the frequency of the classes; z is null without codes, label without classes. */
  async draw(seed, temperature = 1, label = null, guidance = 1) {
    const drawn = noise(this.noiseWidth, seed, temperature, this.card.noise.categorical);
    if (this.classes.length) label ??= this.classes[drawnLabel(this.counts, seed)];
    const inputs = { noise: this.#floats(drawn, [this.noiseWidth]), ...this.#label("generator", label) };
    if (this.guided) inputs.guidance = this.#floats(Float32Array.of(guidance), []);
    else if (guidance !== 1) throw new Error(`guidance must be left out, but is ${guidance}`);
    const { image, z } = await this.#run("generator", inputs);
    return { image: image.data, z: z?.data ?? null, label };
  }

  /** The graph of that name, loaded once. */
  session(name) {
    this.#sessions[name] ??= read(this.folder, `${name}.onnx`, this.manifest).then((content) =>
      this.ort.InferenceSession.create(content, { executionProviders: ["wasm"] }).catch(({ message }) => {
        const [, reason] = message.split("no available backend found. ERR: ");
        throw new Error(
          reason ? `onnxruntime-web must start, but: ${reason}` : `${name}.onnx must be a model that runs, but: ${message}`,
        );
      }),
    );
    return this.#sessions[name];
  }

  /** Rows of this shape, as a graph takes them. */
  #floats(data, shape) {
    const size = shape.reduce((product, each) => product * each, 1);
    return new this.ort.Tensor("float32", data, [data.length / size, ...shape]);
  }

  /** The input `label` of so many rows, for a graph that takes it. */
  #label(name, label, rows = 1) {
    const [index, taken] = [this.classes.indexOf(label), this.takes(name, "label")];
    if (!this.classes.length && label !== null) throw new Error(`a label must be left out, but is ${label}`);
    if (label === null && !taken) return {};
    if (index < 0) throw new Error(`a label must be one of ${listed(this.classes)}, but is ${label ?? "not given"}`);
    return taken && { label: new this.ort.Tensor("int64", new BigInt64Array(rows).fill(BigInt(index)), [rows]) };
  }

  /** One run after the other, because a session must not run twice at the same time. */
  #run(name, inputs) {
    const found = this.#turn.then(async () => (await this.session(name)).run(inputs));
    this.#turn = found.catch(() => {}); // the caller handles it
    return found;
  }
}

async function openRuntime(threads) {
  if (typeof WebAssembly !== "object") throw new Error("the browser must allow WebAssembly, but has it switched off");
  let ort;
  try {
    ort = await import(new URL("ort.wasm.bundle.min.mjs", ORT).href);
  } catch (error) {
    throw new Error(`onnxruntime-web must be there, but ort/ort.wasm.bundle.min.mjs: ${error.message}`);
  }
  ort.env.wasm.wasmPaths = { wasm: new URL("ort-wasm-simd-threaded.wasm", ORT).href };
  ort.env.wasm.numThreads = globalThis.crossOriginIsolated ? threads : 1;
  ort.env.logLevel = "error";
  return ort;
}

/** A file that the manifest names, checked where the browser lets pages compute digests. */
async function read(folder, name, manifest) {
  const expected = manifest.files?.[name]?.sha256;
  if (!expected) throw new Error(`the export must hold ${name}, but its manifest does not name it`);
  const content = await fetched(folder, name);
  if (globalThis.crypto?.subtle) {
    const found = hex(await crypto.subtle.digest("SHA-256", content));
    if (found !== expected)
      throw new Error(
        `${name} must have the SHA-256 that the manifest names, ${expected.slice(0, 12)}…, but has ${found.slice(0, 12)}…`,
      );
  }
  return content;
}

async function fetched(folder, name) {
  const answer = await fetch(new URL(name, folder), { cache: "no-cache" }).catch((error) => {
    throw new Error(`${name} must be there, but the server cannot be reached: ${error.message}`);
  });
  if (answer.status === 409) {
    throw new Error(`${name} must be as it was when the server started, but has changed: start it again`);
  }
  if (!answer.ok) throw new Error(`${name} must be there, but the server answers ${answer.status}`);
  return new Uint8Array(await answer.arrayBuffer());
}

/** What the page shows of a card of format 1 or 2, in the words of today. */
function inFormat2(card) {
  const { choices, ...noise } = card.noise ?? {};
  for (const samples of Object.values(card.metrics?.samples ?? {}))
    for (const verdict of [samples?.rule_1, samples?.rule_2].filter(Boolean))
      Object.assign(verdict, { status: OUTCOMES[verdict.status] ?? verdict.status, evidence: phrased(verdict.evidence) });
  const warning = phrased(card.warning)?.replace(/^Breaks Rule 2: /, "Fails Rule 2: ");
  return { model: card.variant, ...card, noise: { categorical: choices, ...noise }, warning };
}

const phrased = (text) =>
  typeof text === "string" ? PHRASES.reduce((found, [old, phrase]) => found.replaceAll(old, phrase), text) : undefined;

const hex = (digest) => [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, "0")).join("");

function whole(name, value) {
  if (!Number.isInteger(value) || value < 1) throw new Error(`${name} must be a whole number of at least 1, but is ${value}`);
  return value;
}

function codeShape(sizes, latent) {
  const shape = [sizes].flat().map((size) => whole("code_shape", size));
  if (shape.reduce((product, size) => product * size, 1) !== latent)
    throw new Error(`code_shape must be of ${latent} values, but is ${shape.join(", ")}`);
  return shape;
}

/** The names of the classes and their counts of training images; empty where the model is not conditional. */
function classes(label) {
  const [names, counts] = [label?.classes ?? [], label?.counts ?? []];
  const counted = counts.every((count) => Number.isSafeInteger(count) && count >= 0);
  const total = counts.reduce((sum, count) => sum + count, 0);
  if (label && !(names.length && names.length === counts.length && counted && total > 0 && total < 2 ** 32))
    throw new Error("label must have classes, each with its number of training images, but has others");
  return [names.map(String), counts];
}

const listed = (names) =>
  names.slice(0, LISTED).join(", ") + (names.length > LISTED ? `, ${names.length - LISTED} more` : "");

/** Numbers as long as a code, or null. */
function vector(values, length) {
  const fits = Array.isArray(values) && values.length === length && values.every(Number.isFinite);
  return fits ? Float32Array.from(values) : null;
}

function direction({ name, vector: values, low, high, explains }, latent) {
  const found = vector(values, latent);
  if (!found || !(low < high)) throw new Error(`a direction must be ${latent} numbers from low to high, but is ${name}`);
  return { name: String(name), vector: found, low, high, explains: Number.isFinite(explains) ? explains : null };
}
