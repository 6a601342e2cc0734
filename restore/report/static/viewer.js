// Multi-planar viewers (NiiVue), one for each volume, whose cross-hairs move together. Without WebGL 2 the page says so
// and the slider above remains.
"use strict";

(async () => {
  const place = document.getElementById("planar");
  const message = document.getElementById("planar-message");
  const page = window.restorePage;
  if (!place || !page || !page.panes.length) return;

  const say = (text) => {
    message.textContent = text;
    message.hidden = false;
    place.hidden = true;
  };
  const probe = document.createElement("canvas").getContext("webgl2");
  if (!probe || !window.niivue) {
    say("This view needs WebGL 2, which this browser does not offer here. The slider above shows the same volumes.");
    return;
  }
  probe.getExtension("WEBGL_lose_context")?.loseContext();

  const knots = page.magma.map((_, i) => i).filter((i) => i % 15 === 0);
  const channel = (c) => knots.map((i) => page.magma[i][c]);
  const colours = { R: channel(0), G: channel(1), B: channel(2), A: knots.map(() => 255), I: knots };
  const panes = [];
  let following = false;

  const digits = (number) => Number(number.toPrecision(4)).toString();
  const tell = (pane) => {
    const nv = pane.viewer;
    const volume = nv.volumes[0];
    const inside = (index, axis) => Math.max(0, Math.min(volume.dimsRAS[axis + 1] - 1, index)); // the far edge is rounded up
    const voxel = [...nv.frac2vox(nv.scene.crosshairPos)].map(inside);
    const value = volume.getValue(...voxel);
    pane.output.textContent = `${digits(value)}${page.units ? ` ${page.units}` : ""} at ${voxel.join(", ")}`;
    pane.figure.dataset.voxel = voxel.join(",");
  };
  const move = (to, from) => {
    if (following) return;
    following = true;
    for (const pane of panes) {
      if (pane !== from) {
        pane.viewer.scene.crosshairPos = to;
        pane.viewer.drawScene();
      }
      tell(pane);
    }
    for (const [axis, input] of sliders.entries()) input.value = to[axis];
    following = false;
  };

  const sliders = [];
  const bar = document.createElement("div");
  bar.className = "controls";
  for (const [axis, name] of ["left – right", "front – back", "slice"].entries()) {
    const label = document.createElement("label");
    const word = document.createElement("span");
    word.textContent = name;
    const input = Object.assign(document.createElement("input"), { type: "range", min: 0, max: 1, step: 0.002, value: 0.5 });
    input.addEventListener("input", () => {
      const to = [...panes[0].viewer.scene.crosshairPos];
      to[axis] = Number(input.value);
      move(to, null);
    });
    label.append(word, input);
    bar.append(label);
    sliders.push(input);
  }
  place.before(bar);

  const show = async (layer) => {
    const figure = document.createElement("figure");
    const caption = document.createElement("figcaption");
    const name = document.createElement("b");
    const output = document.createElement("output");
    name.textContent = layer.name;
    caption.append(name, output);
    const box = document.createElement("div");
    const canvas = document.createElement("canvas");
    canvas.setAttribute("aria-label", layer.name);
    box.append(canvas);
    figure.append(caption, box);
    place.append(figure);
    const viewer = new niivue.Niivue({
      logLevel: "error", dragAndDropEnabled: false, backColor: [0, 0, 0, 1], loadingText: "", multiplanarShowRender: 0,
      isRadiologicalConvention: true, crosshairColor: [0.2, 0.75, 1, 0.8], crosshairWidth: 1, isNearestInterpolation: true,
      viewModeHotKey: "", clipPlaneHotKey: "", cycleClipPlaneHotKey: "", scrollRequiresFocus: true,
    });
    await viewer.attachToCanvas(canvas);
    const deviation = layer.role === "std";
    viewer.addColormap("deviation", colours);
    const volume = await niivue.NVImage.loadFromBase64({
      base64: window.restoreVolumes[layer.key], name: `${layer.key}.nii`, colormap: deviation ? "deviation" : "gray",
      cal_min: deviation ? 0 : page.window[0], cal_max: deviation ? page.limit : page.window[1],
    });
    viewer.addVolume(volume);
    viewer.setSliceType(viewer.sliceTypeMultiplanar);
    const pane = { viewer, figure, output };
    viewer.onLocationChange = () => move(viewer.scene.crosshairPos, pane);
    panes.push(pane);
    place.dataset.loaded = String(panes.length);
  };

  try {
    for (const key of page.panes) await show(page.layers.find((layer) => layer.key === key));
    for (const pane of panes) {
      pane.viewer.broadcastTo(panes.filter((other) => other !== pane).map((other) => other.viewer), { "2d": true, "3d": false });
    }
    move([0.5, 0.5, 0.5], null);
    place.dataset.ready = "1";
  } catch (error) {
    say(`This view could not be started (${error.message}). The slider above shows the same volumes.`);
  }
})();
