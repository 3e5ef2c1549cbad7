// Exploration of the codes: sliders, a pad of two axes, the strip between two images, an image of the user's own.
//
// The image is decoded from one code: state.code plus the directions, each times the value of its slider; and, if the model
// is conditional, from state.label, the name of a class.

import { element, fault, listen } from "./elements.js";
import { between, clamp, cover, image, pad, pixels, resize, slider, tile } from "./views.js";

const SHOWN = 24; // dimensions that are not folded away
const LONGEST_NAME = 26; // letters of a direction's name that fit
const CELLS = 9; // images of the strip
const PATIENCE = 1500; // ms that the map behind the pad may take

/** Everything that needs a code. */
export function explorer(model, show) {
  const { directions, codes, latent } = model;
  const state = { code: codes.mean.slice(), along: new Float64Array(directions.length), label: null };
  const axes = [...directions.map(alongDirection), ...byDeviation(codes.deviation).map(ofDimension)];
  const views = [];

  const number = (at, of = state) =>
    directions.reduce((total, { vector }, index) => total + of.along[index] * vector[at], of.code[at]);
  const code = (of = state) => of.code.map((_, at) => number(at, of));

  function alongDirection({ name, low, high, explains }, index) {
    const title = explains === null ? name : `${name}: ${Math.round(100 * explains)} % of the variance`;
    const get = (of = state) => of.along[index];
    return { name, title, low, high, get, set: (value, of = state) => (of.along[index] = value) };
  }

  function ofDimension(index) {
    const [middle, reach] = [codes.mean[index], 3 * Math.max(codes.deviation[index], 1e-3)];
    const get = (of) => number(index, of);
    const set = (value, of = state) => (of.code[index] += value - get(of));
    return { name: `z[${index}]`, title: `dimension ${index} of the code`, low: middle - reach, high: middle + reach, get, set };
  }

  function changed(axis, value) {
    axis.set(value);
    refresh();
  }

  function refresh() {
    const [z, { label }] = [code(), state];
    for (const view of views) view();
    show(() => model.decode(z, label));
  }

  function goTo(z, label = state.label) {
    if (z.length !== latent) throw new Error(`a code must have ${latent} numbers, but has ${z.length}`);
    state.code = z.slice();
    state.label = label;
    state.along.fill(0);
    element.given.hidden = true;
    refresh();
  }

  const copy = () => ({ code: state.code.slice(), along: state.along.slice() });
  const label = () => state.label;
  const space = { model, axes, code, copy, refresh, goTo, label };
  const { ends, relabel } = strip(space);
  views.push(...sliders(axes, directions.length, changed), picker(space), relabel);
  const find = model.encodes ? finding(space) : element.find.remove();
  listen("centre", "click", () => goTo(codes.mean));
  listen("level", "click", () => (state.along.fill(0), refresh()));
  return { ...space, ends, find, drawn: ({ z, label }) => goTo(z, label) };
}

const byDeviation = (deviation) => [...deviation.keys()].sort((a, b) => deviation[b] - deviation[a]);

/** A slider for every axis: directions first, then dimensions, those beyond `SHOWN` folded away. */
function sliders(axes, directions, changed) {
  if (!directions) element.named.remove();
  const longest = Math.max(0, ...axes.slice(0, directions).map(({ name }) => [...name].length));
  element.directions.style.setProperty("--name", `${Math.min(longest, LONGEST_NAME)}ch`);
  const extra = axes.length - directions - SHOWN;
  element.rest.hidden = extra <= 0;
  element.rest.querySelector("summary").textContent = `${extra} more`;
  return axes.map((axis, index) => {
    const shown = index < directions + SHOWN ? element.dimensions : element["other-dimensions"];
    return slider(index < directions ? element.directions : shown, axis, changed);
  });
}

/** Two axes at once, on a map of the images there: a function that updates the pad. */
function picker({ model, axes, copy, refresh, code, label }) {
  const chosen = [element.across, element.up];
  const named = (name) => axes.findIndex((axis) => axis.name === name);
  if (axes.length < 2) return element.picker.remove() ?? (() => {});
  for (const select of chosen) select.append(...axes.map(({ name }, index) => new Option(name, index)));
  const first = named("component 1") >= 0 && named("component 2") >= 0 ? ["component 1", "component 2"].map(named) : [0, 1];
  chosen.forEach((select, index) => (select.value = first[index]));
  element.pad.style.aspectRatio = element.image.style.aspectRatio;
  let [before, drawn, timer, round] = [first, "", 0, 0];

  const picked = () => chosen.map((select) => axes[select.value]);
  const place = ([x, y], of) =>
    [[picked()[0], x], [picked()[1], y]]
      .sort(([a], [b]) => axes.indexOf(a) - axes.indexOf(b)) // a direction moves dimensions, so these come last
      .forEach(([axis, share]) => axis.set(axis.low + share * (axis.high - axis.low), of));
  const put = pad(element.pad, element.marker, (shares) => {
    place(shares);
    refresh();
  });

  /** Decode the map, a row at a time between frames, if that is fast enough. */
  async function draw() {
    const mine = ++round;
    const [, height, width] = model.shape;
    const cells = clamp(Math.floor(320 / Math.max(height, width)), 5, 9);
    const [base, labelled] = [copy(), label()];
    if (model.pace * cells * cells > PATIENCE) return resize(element.map, 1, 1);
    const rows = [];
    for (let row = 0; row < cells; row++) {
      const z = Array.from({ length: cells }, (_, column) => {
        const of = { code: base.code.slice(), along: base.along.slice() };
        place([(column + 0.5) / cells, 1 - (row + 0.5) / cells], of); // the middle of the cell
        return [...code(of)];
      });
      rows.push(await model.decode(z.flat(), labelled));
      await new Promise((resolve) => setTimeout(resolve));
      if (mine !== round) return;
    }
    tile(element.map, rows, cells, model.shape);
    element.pad.dataset.map = "drawn";
  }

  for (const [index, select] of chosen.entries())
    select.addEventListener("change", () => {
      if (chosen[0].value === chosen[1].value) chosen[1 - index].value = before[index];
      before = chosen.map((each) => Number(each.value));
      refresh();
    });

  return () => {
    const shown = picked();
    const shares = shown.map(({ low, high, get }) => (get() - low) / (high - low));
    put(shares, shown.map(({ name, get }) => `${name} ${get().toFixed(2)}`).join(", "));
    const base = copy();
    place([0.5, 0.5], base);
    const what = `${label()} ${before} ${[...code(base)].map((value) => value.toFixed(3))}`; // the same wherever the marker is
    if (what === drawn) return;
    drawn = what;
    round++;
    delete element.pad.dataset.map;
    clearTimeout(timer);
    timer = setTimeout(draw, 120);
  };
}

/** The path from A to B: a function that sets both, and one that decodes the strip anew if the label has changed. */
function strip({ model, code, goTo, label }) {
  let a, b, drawn;
  const path = () => document.querySelector("input[name=path]:checked").value;
  const at = (share) => between(a, b, share, path());
  async function ends(from, to) {
    [a, b, drawn] = [from, to, label()];
    const codes = Array.from({ length: CELLS }, (_, index) => [...at(index / (CELLS - 1))]);
    tile(element.strip, [await model.decode(codes.flat(), drawn)], CELLS, model.shape);
    element.strip.dataset.drawn = Number(element.strip.dataset.drawn ?? 0) + 1;
  }
  const share = () => Number(element.share.value);
  listen("share", "input", () => goTo(at(share())));
  listen("set-a", "click", () => ((element.share.value = 0), ends(code(), b)));
  listen("set-b", "click", () => ((element.share.value = 1), ends(a, code())));
  for (const each of document.querySelectorAll("input[name=path]"))
    each.addEventListener("change", () => (goTo(at(share())), ends(a, b)));
  return { ends, relabel: () => void (a && drawn !== label() && ends(a, b)) };
}

/** The code of an image that the user drops or chooses: a function that finds it again, with another label. */
function finding({ model, goTo, label }) {
  let last = null;
  async function find(file, labelled = label()) {
    if (!file) return;
    last = file;
    const picture = await createImageBitmap(file).catch(() => null);
    if (!picture) return fault(`a file must be an image that this browser can read, but ${file.name} is not`);
    if (file !== last) return; // another one followed
    const given = image(cover(element.original, picture, model.shape[0]), model.shape, element.invert.checked);
    element.original.getContext("2d").putImageData(pixels(given, model.shape), 0, 0);
    goTo(await model.encode(given, labelled), labelled);
    element.given.hidden = false;
  }
  listen("file", "change", () => find(element.file.files[0]));
  listen("invert", "change", () => find(last));
  const over = (on) => (event) => {
    event.preventDefault();
    document.body.classList.toggle("over", on);
  };
  window.addEventListener("dragover", over(true));
  window.addEventListener("dragleave", over(false));
  window.addEventListener("drop", (event) => {
    over(false)(event);
    find(event.dataTransfer.files[0]);
  });
  return (labelled) => find(last, labelled);
}
