// The page: opens the model and shows images that it draws; explorer.js does everything that needs a code.

import { element, fault, listen, settle } from "./elements.js";
import { explorer } from "./explorer.js";
import { openModel } from "./model.js";
import { pixels, resize } from "./views.js";

const MODEL = new URL("model/", document.baseURI);
const THREADS = Number(new URLSearchParams(location.search).get("threads")) || Math.min(4, Math.ceil(navigator.hardwareConcurrency / 2));

const ready = openModel(MODEL, THREADS).then(start);
window.latentmill = Object.freeze({
  ready: ready.then(() => {}),
  decode: async (z, label) => (await ready).model.decode(z, label), // Float32Array (N * C * H * W)
  encode: async (pixels, label) => (await ready).model.encode(pixels, label),
  draw: async (...how) => (await ready).model.draw(...how), // (seed, temperature, label, guidance) -> {image, z, label}
  setCode: async (z, label) => (await ready).goTo(Float32Array.from(z), label),
  code: async () => (await ready).code(),
  card: ready.then(({ model }) => model.card),
});
ready.catch(fault);
window.latentmill.ready.catch(() => {}); // `fault` has reported it
window.latentmill.card.catch(() => {});
window.addEventListener("unhandledrejection", ({ reason }) => fault(reason));
window.addEventListener("error", ({ error, message }) => fault(error ?? message));

async function start(model) {
  describe(model);
  for (const name of ["image", "original"]) resize(element[name], model.shape[2], model.shape[1]);
  element.image.style.aspectRatio = `${model.shape[2]} / ${model.shape[1]}`;
  const show = shower(model);
  const page = model.explorable ? explorer(model, show) : { model, drawn: ({ image }) => show(() => image) };
  drawing(model, page);
  if (!model.explorable) for (const each of [element.space, element.find]) each.remove();
  element.loading.hidden = true;
  document.querySelector("main").hidden = false;
  const first = await model.draw(0);
  nameDrawn(first.label);
  page.drawn(first);
  const ends = model.explorable ? await Promise.all([1, 2].map((seed) => model.draw(seed, 1, first.label))) : [];
  if (model.explorable) await page.ends(...ends.map(({ z }) => z));
  document.body.dataset.state = "ready";
  return page;
}

/** Text from the card; none of it becomes markup. */
function describe({ card, shape, latent, threads, checked }) {
  const [channels, height, width] = shape;
  document.title = `latentmill: ${card.entry}`;
  element.entry.textContent = card.entry;
  const kind = `${channels >= 3 ? "colour" : "grey"}${channels === 2 || channels === 4 ? " with alpha" : ""}`;
  const prior = latent ? `prior: ${card.prior ?? `${latent} dimensions`}` : "no codes";
  element.facts.textContent = [card.model !== card.entry && card.model, `${height} × ${width} ${kind}`, prior]
    .filter(Boolean)
    .join(" · ");
  element.warning.textContent = card.warning ?? "";
  element.warning.hidden = !card.warning;
  const found = card.metrics?.samples?.[card.metrics.exported_prior] ?? {};
  for (const rule of ["rule_1", "rule_2"]) if (found[rule]) element.verdicts.append(chip(rule, found[rule]), " ");
  const weights = card.weights_sha256 ? `weights ${String(card.weights_sha256).slice(0, 12)}` : "";
  const digests = checked ? "files checked against the manifest" : "files not checked, because the address is not secure";
  const where = `decoded in this browser on ${threads} thread${threads > 1 ? "s" : ""}`;
  element.provenance.textContent = [where, digests, weights].filter(Boolean).join(" · ");
}

function chip(rule, { status, evidence }) {
  const [look, icon] = { pass: ["good", "✓"], fail: ["bad", "✗"] }[status] ?? ["unsure", "?"];
  const found = document.createElement("span");
  found.className = `chip ${look}`;
  found.textContent = `${icon} ${rule.replace("_", " ")} ${status}`;
  found.title = String(evidence);
  return found;
}

/** A function that shows the image that `decoded` returns, the newest if several are waiting. */
function shower(model) {
  const context = element.image.getContext("2d", { willReadFrequently: true });
  const times = [];
  let next = null;
  async function frame() {
    const [decoded, started] = [next, performance.now()];
    try {
      context.putImageData(pixels(await decoded(), model.shape), 0, 0);
      settle();
    } catch (error) {
      fault(error);
    }
    times.push(performance.now() - started);
    if (times.length > 30) times.shift();
    model.pace = [...times].sort((a, b) => a - b)[times.length >> 1];
    if (model.explorable) element.time.textContent = `${model.pace.toFixed(1)} ms a frame`;
    element.image.dataset.milliseconds = model.pace;
    element.image.dataset.frame++;
    if (next === decoded) next = null;
    else requestAnimationFrame(frame);
  }
  return (decoded) => {
    if (!next) requestAnimationFrame(frame);
    next = decoded;
  };
}

/** Seed, class, guidance, temperature and button; `page.drawn` receives the drawn image. */
function drawing(model, page) {
  let latest = 0;
  const draw = async () => {
    const [seed, temperature, guidance] = ["seed", "temperature", "guidance"].map((name) => Number(element[name].value));
    const mine = ++latest;
    element["temperature-value"].textContent = temperature.toFixed(2);
    element["guidance-value"].textContent = guidance.toFixed(1);
    if (!Number.isSafeInteger(seed) || seed < 0 || element.seed.value === "")
      return fault(`a seed must be a whole number of at least 0, but is ${element.seed.value || "nothing"}`);
    const drawn = await model.draw(seed, temperature, chosen(), guidance);
    if (mine !== latest) return;
    nameDrawn(chosen() === null ? drawn.label : null);
    page.drawn(drawn);
  };
  element["class-row"].hidden = !model.classes.length;
  element["guidance-row"].hidden = !model.guided;
  element["temperature-row"].hidden = !model.scalable;
  element.class.append(...model.classes.map((name, index) => new Option(name, index)));
  const chosen = () => (element.class.value === "" ? null : model.classes[element.class.value]);
  // A picture of the user's own stays, and its code is found for the chosen class, if it depends on that.
  const isFound = () => !element.given.hidden && chosen() !== null && model.takes("encoder", "label");
  listen("class", "change", () => (isFound() ? page.find(chosen()) : draw()));
  listen("draw", "click", () => {
    element.seed.value = Math.max(0, Math.trunc(Number(element.seed.value)) || 0) + 1;
    return draw();
  });
  listen("seed", "input", draw);
  listen("temperature", "input", draw);
  listen("guidance", "input", draw);
  listen("download", "click", () => element.image.toBlob(download(model.card.entry)));
}

/** Say which class was drawn where any may be. */
const nameDrawn = (label) => (element.class.options[0].text = label === null ? "any" : `any: ${label}`);

const download = (entry) => (blob) => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = `${String(entry).replace(/[^\w-]+/g, "_")}.png`;
  link.click();
  URL.revokeObjectURL(link.href);
};
