// Pictures of images and codes: canvases, sliders, the strip between two codes, the pad of two axes.

const hasAlpha = (channels) => channels === 2 || channels === 4;

/** One image of a batch as ImageData: grey from 1 or 2 channels, colour from 3 or more; the 2nd or 4th is alpha. */
export function pixels(images, [channels, height, width], index = 0) {
  const size = height * width;
  const start = index * channels * size;
  const found = new ImageData(width, height);
  for (let channel = 0; channel < 3; channel++) {
    const from = start + (channels >= 3 ? channel * size : 0);
    for (let pixel = 0; pixel < size; pixel++) found.data[4 * pixel + channel] = 255 * images[from + pixel];
  }
  const alpha = start + (channels - 1) * size;
  for (let pixel = 0; pixel < size; pixel++) found.data[4 * pixel + 3] = hasAlpha(channels) ? 255 * images[alpha + pixel] : 255;
  return found;
}

/** ImageData as an image (C, H, W). */
export function image({ data }, [channels, height, width], inverted) {
  const size = height * width;
  const found = new Float32Array(channels * size).fill(1);
  const value = inverted ? (level) => 1 - level / 255 : (level) => level / 255;
  for (let pixel = 0; pixel < size; pixel++) {
    const [red, green, blue, alpha] = data.subarray(4 * pixel, 4 * pixel + 4);
    if (channels < 3) found[pixel] = value(0.299 * red + 0.587 * green + 0.114 * blue);
    else [red, green, blue].forEach((level, channel) => (found[channel * size + pixel] = value(level)));
    if (hasAlpha(channels)) found[(channels - 1) * size + pixel] = alpha / 255;
  }
  return found;
}

export function resize(canvas, width, height) {
  [canvas.width, canvas.height] = [width, height];
}

/** Images in rows, without gaps. */
export function tile(canvas, rows, columns, shape) {
  const [, height, width] = shape;
  resize(canvas, columns * width, rows.length * height);
  const context = canvas.getContext("2d");
  rows.forEach((images, row) => {
    for (let column = 0; column < columns; column++)
      context.putImageData(pixels(images, shape, column), column * width, row * height);
  });
}

/** Fill `canvas` with the middle of a picture, without bars; on black if images of `channels` have no alpha. */
export function cover(canvas, picture, channels) {
  const scale = Math.max(canvas.width / picture.width, canvas.height / picture.height);
  const [width, height] = [picture.width * scale, picture.height * scale];
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.clearRect(0, 0, canvas.width, canvas.height);
  if (!hasAlpha(channels)) context.fillRect(0, 0, canvas.width, canvas.height); // where the picture is transparent
  context.drawImage(picture, (canvas.width - width) / 2, (canvas.height - height) / 2, width, height);
  return context.getImageData(0, 0, canvas.width, canvas.height);
}

/** A labelled slider of `axis`, in `parent`: a function that updates it to the axis's value. */
export function slider(parent, axis, changed) {
  const row = document.createElement("label");
  const [name, input, output] = ["span", "input", "output"].map((tag) => document.createElement(tag));
  row.className = "slider";
  row.dataset.axis = axis.name;
  row.title = axis.title;
  name.className = "name";
  name.textContent = axis.name;
  const step = 10 ** Math.floor(Math.log10((axis.high - axis.low) / 200));
  Object.assign(input, { type: "range", min: axis.low, max: axis.high, step: "any" });
  input.addEventListener("input", () => changed(axis, Number(input.value)));
  input.addEventListener("keydown", (event) => {
    const by = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 10, PageDown: -10 }[event.key];
    if (by === undefined) return; // with the step "any", a browser chooses a step that is too large here
    event.preventDefault();
    changed(axis, clamp(Number(input.value) + by * 2 * step, axis.low, axis.high));
  });
  row.append(name, input, output);
  parent.append(row);
  return () => {
    const value = axis.get();
    if (Number(input.value) !== value) input.value = value;
    input.style.setProperty("--at", `${(100 * (clamp(value, axis.low, axis.high) - axis.low)) / (axis.high - axis.low)}%`);
    const text = value.toFixed(2).replace(/^-(0\.00)$/, "$1");
    if (output.textContent !== text) output.textContent = input.ariaValueText = text;
  };
}

/** A point on the path from `a` to `b`, straight or along the great arc, as in latentmill.runtime.paths. */
export function between(a, b, share, path) {
  let weights = [1 - share, share];
  if (path === "slerp") {
    const norms = Math.sqrt(dot(a, a) * dot(b, b));
    const angle = norms ? Math.acos(clamp(dot(a, b) / norms, -1, 1)) : 0;
    if (angle > 1e-6 && angle < Math.PI - 1e-6) weights = weights.map((part) => Math.sin(part * angle) / Math.sin(angle));
  }
  return a.map((value, index) => weights[0] * value + weights[1] * b[index]);
}

const dot = (a, b) => a.reduce((total, value, index) => total + value * b[index], 0);
export const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

/** The pad: calls `moved` with the shares of its width and height, from left and bottom; a function that sets the marker. */
export function pad(element, marker, moved) {
  let place = [0.5, 0.5];
  const to = ({ clientX, clientY }) => {
    const { left, bottom, width, height } = element.getBoundingClientRect();
    moved([clamp((clientX - left) / width, 0, 1), clamp((bottom - clientY) / height, 0, 1)]);
  };
  element.addEventListener("pointerdown", (event) => {
    element.setPointerCapture(event.pointerId);
    to(event);
  });
  element.addEventListener("pointermove", (event) => element.hasPointerCapture(event.pointerId) && to(event));
  element.addEventListener("keydown", (event) => {
    const step = event.shiftKey ? 0.1 : 0.02;
    const by = { ArrowRight: [step, 0], ArrowLeft: [-step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] }[event.key];
    if (!by && event.key !== "Home") return;
    event.preventDefault();
    moved(by ? place.map((part, index) => clamp(part + by[index], 0, 1)) : [0.5, 0.5]);
  });
  return (shares, text) => {
    place = shares.map((share) => clamp(share, 0, 1));
    marker.style.left = `${100 * place[0]}%`;
    marker.style.top = `${100 * (1 - place[1])}%`;
    element.ariaValueNow = place[0].toFixed(2);
    element.ariaValueText = text;
  };
}
