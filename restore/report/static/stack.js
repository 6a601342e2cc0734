// One picture that switches slice and layer, with a cross-hair and the values of all layers at its place. It draws the
// volumes of the page (NIfTI-1, little-endian int16 or uint8, written by this program) without WebGL.
"use strict";

(() => {
  const place = document.getElementById("stack");
  const page = window.restorePage;
  if (!place || !page) return;

  const HEADER = 352;
  const decode = (key) => {
    const bytes = Uint8Array.from(atob(window.restoreVolumes[key]), (c) => c.charCodeAt(0));
    const head = new DataView(bytes.buffer, 0, HEADER);
    const size = { width: head.getInt16(42, true), height: head.getInt16(44, true) };
    const wide = head.getInt16(70, true) === 4;
    const values = wide ? new Int16Array(bytes.buffer, HEADER) : new Uint8Array(bytes.buffer, HEADER);
    return { ...size, values, slope: head.getFloat32(112, true), intercept: head.getFloat32(116, true) };
  };

  const decoded = new Map();
  const volume = (layer) => {
    if (!decoded.has(layer.key)) decoded.set(layer.key, decode(layer.key));
    return decoded.get(layer.key);
  };
  const planes = (layer) => (layer.colour ? 3 : 1);
  const value = (layer, slice, index, channel) => {
    const v = volume(layer);
    const plane = slice * planes(layer) + Math.min(channel, planes(layer) - 1);
    return v.values[plane * v.width * v.height + index] * v.slope + v.intercept;
  };
  const mean = (layer, of) => {
    let sum = 0;
    for (let c = 0; c < planes(layer); c++) sum += of(c);
    return sum / planes(layer);
  };

  const reference = page.layers.find((layer) => layer.role === "reference");
  const { width, height } = volume(page.layers[0]);
  const state = {
    layer: Math.max(page.layers.findIndex((layer) => layer.role === "method"), 0),
    slice: Math.floor(page.slices.length / 2),
    low: page.window[0], high: page.window[1], difference: false,
    x: Math.floor(width / 2), y: Math.floor(height / 2),
  };

  const element = (tag, properties = {}, ...children) => {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  };
  const canvas = element("canvas", { width, height, tabIndex: 0 });
  canvas.setAttribute("role", "img");
  canvas.style.aspectRatio = `${width} / ${height * page.aspect}`;
  const context = canvas.getContext("2d");
  const hair = { h: element("i", { className: "hair h" }), v: element("i", { className: "hair v" }) };
  const frame = element("div", { className: "frame" }, canvas, hair.h, hair.v);

  const difference = (layer, slice, index) =>
    mean(layer, (c) => Math.abs(value(layer, slice, index, c) - value(reference, slice, index, c)));
  const differs = (layer) => reference && layer !== reference && layer.role !== "std";

  const draw = () => {
    const layer = page.layers[state.layer];
    const shown = context.createImageData(width, height);
    const coloured = layer.role === "std" || (state.difference && differs(layer));
    const span = Math.max(state.high - state.low, 1e-30);
    for (let i = 0; i < width * height; i++) {
      for (let c = 0; c < 3; c++) {
        if (coloured) {
          if (c > 0) break;
          const found = layer.role === "std" ? value(layer, state.slice, i, 0) : difference(layer, state.slice, i);
          const step = Math.max(0, Math.min(255, Math.round((found / page.limit) * 255)));
          shown.data.set(page.magma[step], 4 * i);
          continue;
        }
        const level = ((value(layer, state.slice, i, c) - state.low) / span) * 255;
        shown.data[4 * i + c] = Math.max(0, Math.min(255, Math.round(level)));
      }
      shown.data[4 * i + 3] = 255;
    }
    context.putImageData(shown, 0, 0);
    canvas.setAttribute("aria-label", `${layer.name}, slice ${page.slices[state.slice]}`);
    point();
  };

  const digits = (number) => (Math.abs(number) < 1e-12 ? "0" : Number(number.toPrecision(4)).toString());
  const readout = element("tbody");
  const point = () => {
    hair.v.style.left = `${((state.x + 0.5) / width) * 100}%`;
    hair.h.style.top = `${((state.y + 0.5) / height) * 100}%`;
    const index = state.y * width + state.x;
    readout.replaceChildren(...page.layers.map((layer) => {
      const found = [...Array(planes(layer)).keys()].map((c) => digits(value(layer, state.slice, index, c)));
      const error = differs(layer) ? digits(difference(layer, state.slice, index)) : "";
      const row = element("tr", {}, element("th", { textContent: layer.name, scope: "row" }),
        element("td", { textContent: found.join(", ") }), element("td", { textContent: error }));
      row.classList.toggle("chosen", layer === page.layers[state.layer]);
      return row;
    }));
    const number = page.slices[state.slice];
    where.textContent = `slice ${number}, row ${state.y}, column ${state.x}`;
  };
  const where = element("caption");

  const slider = (label, properties, change) => {
    const input = element("input", { type: "range", ...properties });
    const output = element("output", { value: input.value });
    input.addEventListener("input", () => change(Number(input.value), output));
    return { input, output, row: element("label", {}, element("span", { textContent: label }), input, output) };
  };
  const slices = slider("slice", { min: 0, max: page.slices.length - 1, value: state.slice }, (to, output) => {
    state.slice = to;
    output.value = page.slices[to];
    draw();
  });
  slices.output.value = page.slices[state.slice];
  slices.input.id = "stack-slice";
  const reach = page.window[1] - page.window[0];
  const bounds = { min: page.window[0] - reach / 2, max: page.window[1] + reach, step: reach / 200 };
  const edge = (name) => {
    const made = slider(name === "low" ? "black at" : "white at", { ...bounds, value: state[name] }, (to, output) => {
      state[name] = to;
      output.value = digits(to);
      draw();
    });
    made.output.value = digits(state[name]);
    return made;
  };

  const choices = element("fieldset", { className: "layers" }, element("legend", { textContent: "Layer" }));
  page.layers.forEach((layer, i) => {
    const radio = element("input", { type: "radio", name: "stack-layer", value: String(i), checked: i === state.layer });
    radio.addEventListener("change", () => { state.layer = i; draw(); });
    choices.append(element("label", {}, radio, element("span", { textContent: layer.name })));
  });
  const controls = element("div", { className: "controls" }, choices);
  if (reference) {
    const box = element("input", { type: "checkbox", id: "stack-difference" });
    box.addEventListener("change", () => { state.difference = box.checked; draw(); });
    controls.append(element("label", { className: "check" }, box, element("span", { textContent: "|difference| from the reference" })));
  }
  if (page.slices.length > 1) controls.append(slices.row);
  controls.append(edge("low").row, edge("high").row);
  const heads = ["layer", `value${page.units ? ` (${page.units})` : ""}`, "|difference|"];
  const head = element("thead", {}, element("tr", {}, ...heads.map((text) => element("th", { textContent: text, scope: "col" }))));
  controls.append(element("div", { className: "scroll" }, element("table", { className: "readout" }, where, head, readout)));

  const aim = (event) => {
    const box = canvas.getBoundingClientRect();
    const inside = (at, start, length, count) => Math.max(0, Math.min(count - 1, Math.floor(((at - start) / length) * count)));
    state.x = inside(event.clientX, box.left, box.width, width);
    state.y = inside(event.clientY, box.top, box.height, height);
    point();
  };
  canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); aim(event); });
  canvas.addEventListener("pointermove", (event) => { if (event.buttons) aim(event); });
  const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  canvas.addEventListener("keydown", (event) => {
    const step = steps[event.key];
    const turn = { PageUp: 1, PageDown: -1 }[event.key];
    if (!step && !turn) return;
    event.preventDefault();
    if (step) {
      state.x = Math.max(0, Math.min(width - 1, state.x + step[0]));
      state.y = Math.max(0, Math.min(height - 1, state.y + step[1]));
      point();
    } else {
      slices.input.value = state.slice + turn;
      slices.input.dispatchEvent(new Event("input"));
    }
  });

  place.append(frame, controls);
  draw();
  place.dataset.loaded = String(page.layers.length);
})();
