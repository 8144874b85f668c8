"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const layers = new Map(data.layers.map((layer) => [layer.id, layer]));
  const { height, width } = data.grid;
  const { rows, cols } = data.samples;
  const state = {
    view: "true",
    band: Number(byId("band").value),
    left: byId("left") ? byId("left").value : "fused",
    right: byId("right") ? byId("right").value : "fused",
    swipe: 0.5,
    row: 0, // positions among the sampled rows and columns
    col: 0,
    map: "rmse",
  };
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const shown = (value) => (value === null || value === undefined ? "–" : Number(value).toPrecision(4).replace(/^(-?\d+\.\d*?)0+$/, "$1").replace(/\.$/, ""));
  document.documentElement.style.setProperty("--shape", width / height);

  // ---- spectra: value = offset + step * integer; -32768 is no data ----
  const spectra = data.spectra.map((set) => {
    const bytes = Uint8Array.from(atob(set.data), (c) => c.charCodeAt(0));
    const stored = new DataView(bytes.buffer);
    const at = (sample) => {
      const start = set.pixel[sample] * set.bands;
      return Array.from({ length: set.bands }, (_, band) => {
        const integer = stored.getInt16(2 * (start + band), true);
        return integer === -32768 ? null : set.offset + set.step * integer;
      });
    };
    return { ...set, at };
  });
  const sample = () => state.row * cols.length + state.col;

  // ---- pictures: decoded when they are first shown, the latest kept ----
  const pictures = new Map();
  function picture(encoded) {
    if (!encoded) return null;
    let image = pictures.get(encoded);
    if (!image) {
      image = new Image();
      image.onload = draw;
      image.src = "data:image/webp;base64," + encoded;
    }
    pictures.delete(encoded);
    pictures.set(encoded, image); // the last one is the latest used
    if (pictures.size > 40) pictures.delete(pictures.keys().next().value);
    return image;
  }
  function pictureOf(layer) {
    if (state.view !== "band") return picture(layer.pictures[state.view]);
    return picture(layer.quicklooks[layer.quicklook_of[state.band]]);
  }

  function fit(canvas) {
    const ratio = window.devicePixelRatio || 1;
    const [w, h] = [Math.round(canvas.clientWidth * ratio), Math.round(canvas.clientHeight * ratio)];
    if (canvas.width !== w || canvas.height !== h) [canvas.width, canvas.height] = [w, h];
    const context = canvas.getContext("2d");
    context.setTransform(w / width, 0, 0, h / height, 0, 0); // from here on in pixels of the fused scene
    context.clearRect(0, 0, width, height);
    context.imageSmoothingQuality = "high";
    return context;
  }
  function place(context, image, box) {
    if (!image || !image.complete || !image.naturalWidth) return;
    const enlarged = ((box[2] - box[0]) / image.naturalWidth) * (context.canvas.width / width);
    context.imageSmoothingEnabled = enlarged < 2.5; // beyond that its pixels are to be seen as squares
    context.drawImage(image, box[0], box[1], box[2] - box[0], box[3] - box[1]);
  }
  function half(context, id, from, to) {
    const layer = layers.get(id);
    context.save();
    context.beginPath();
    context.rect(from * width, 0, (to - from) * width, height);
    context.clip();
    place(context, pictureOf(layer), layer.box);
    context.restore();
  }
  function cross(context, canvas) {
    const unit = width / canvas.clientWidth; // one CSS pixel
    const [x, y] = [cols[state.col] + 0.5, rows[state.row] + 0.5];
    for (const [colour, thick] of [["#14181d", 4], ["#ffffff", 2]]) {
      context.strokeStyle = colour;
      context.lineWidth = thick * unit;
      context.beginPath();
      for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
        context.moveTo(x + dx * 4 * unit, y + dy * 4 * unit);
        context.lineTo(x + dx * 12 * unit, y + dy * 12 * unit);
      }
      context.stroke();
    }
  }
  let waiting = false;
  function draw() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      const context = fit(byId("scene"));
      const split = byId("swipe") ? state.swipe : 1;
      half(context, state.left, 0, split);
      half(context, state.right, split, 1);
      cross(context, byId("scene"));
      if (data.errors) {
        const errors = fit(byId("error-map"));
        place(errors, picture(data.errors.maps.find((map) => map.id === state.map).image), data.errors.box);
        cross(errors, byId("error-map"));
      }
    });
  }

  // ---- words beside the pictures ----
  function describe() {
    byId("band-row").hidden = state.view !== "band";
    const label = data.axis.labels[state.band];
    const bad = data.axis.good[state.band] ? "" : " (marked bad)";
    byId("band-name").textContent = `${state.band + 1} · ${label}`;
    byId("band").setAttribute("aria-valuetext", `band ${state.band + 1}, ${label}${bad}`);
    const view = data.views.find((v) => v.id === state.view);
    byId("view-caption").textContent = view
      ? `${view.title}: ${view.caption}.`
      : `Band ${state.band + 1}, ${label}${bad}: black ${shown(data.stretch.low[state.band])}, white ${shown(data.stretch.high[state.band])}.`;
    for (const side of ["left", "right"]) {
      const layer = layers.get(state[side]);
      const place = layer.quicklook_of[state.band];
      let name = layer.name;
      if (state.view === "band") name += place < 0 ? ": no such band" : layer.id === "msi" ? `, ${layer.band_labels[place]}` : "";
      byId(`tag-${side}`).textContent = name;
    }
    byId("tag-left").hidden = !byId("swipe") || state.swipe < 0.12;
    byId("tag-right").hidden = byId("swipe") && state.swipe > 0.88;
    if (byId("swipe")) byId("swipe").setAttribute("aria-valuetext", `${Math.round(100 * state.swipe)} % ${layers.get(state.left).name}, the rest ${layers.get(state.right).name}`);
  }

  // ---- charts ----
  const styles = {
    hsi: { dash: [6, 3], width: 1.5 }, fused: { width: 2 }, reference: { dash: [2, 3], width: 1.5 }, msi: { width: 0 },
  };
  const order = data.axis.order;
  const axisX = order.map((band) => data.axis.x[band]);
  const msi = spectra.find((set) => set.id === "msi" && data.axis.wavelengths && set.x.every((x) => x !== null));
  const lines = spectra.filter((set) => set.id !== "msi");
  const breaks = data.axis.breaks.map((i) => (axisX[i] + axisX[i + 1]) / 2);
  const chartX = [...new Set([...axisX, ...breaks, ...(msi ? msi.x : [])])].sort((a, b) => a - b);
  const positions = new Map(chartX.map((x, i) => [x, i]));

  function onAxis(values) { // bands of the fused scene -> the chart's axis; null breaks the line, undefined does not
    const out = new Array(chartX.length).fill(undefined);
    for (const x of breaks) out[positions.get(x)] = null;
    order.forEach((band, i) => { out[positions.get(axisX[i])] = values[band]; });
    return out;
  }
  function msiOnAxis(values) {
    const out = new Array(chartX.length).fill(undefined);
    msi.x.forEach((x, i) => { out[positions.get(x)] = values[i]; });
    return out;
  }
  function axes(title) {
    const common = { stroke: css("--quiet"), grid: { stroke: css("--grid"), width: 1 }, ticks: { stroke: css("--line"), width: 1, size: 5 },
      font: "12px system-ui, sans-serif", labelFont: "13px system-ui, sans-serif" };
    const format = (_, ticks) => ticks.map((v) => (v === null ? "" : Math.abs(v) >= 1e5 ? v.toExponential(0) : String(Number(v.toPrecision(6)))));
    return [
      { ...common, label: data.axis.title, labelSize: 24, size: 34, space: 60 },
      { ...common, label: title, labelSize: 24, size: 58, values: format },
    ];
  }
  const size = (host) => ({ width: host.clientWidth, height: host.clientWidth < 500 ? 320 : 440 });
  function chart(host, title, series, values) {
    const marker = { show: true, width: (_, i) => (series[i].points.size ? 5 : 3), fill: () => "none", stroke: (_, i) => series[i].stroke,
      dash: (_, i) => (series[i].points.size ? "dotted" : series[i].dash ? "dashed" : "solid") };
    const options = { ...size(host), scales: { x: { time: false } }, axes: axes(title), series,
      cursor: { drag: { x: false, y: false }, points: { size: 6 } }, legend: { live: true, markers: marker } };
    host.replaceChildren();
    return new uPlot(options, values, host);
  }
  const headX = { label: data.axis.wavelengths ? "nm" : "Band", value: (_, x) => (x === null || x === undefined ? "" : String(Number(x.toFixed(1)))) };
  const numeric = (_, v) => (v === null || v === undefined ? "" : shown(v));
  let plots = [];
  function build() {
    for (const { plot } of plots) plot.destroy();
    const sets = [...lines, ...(msi ? [msi] : [])];
    const series = [headX, ...sets.map((set) => ({
      label: set.name, stroke: css(`--${set.id}`), value: numeric, spanGaps: false, ...styles[set.id],
      points: set.id === "msi" ? { show: true, size: 8, fill: css("--page"), stroke: css("--msi"), width: 2 } : { show: false },
    }))];
    const host = byId("spectrum-chart");
    plots = [{ host, plot: chart(host, "Value (units of the fused image)", series, [chartX, ...sets.map(() => onAxis([]))]), sets }];
    if (data.errors) {
      const psnr = byId("psnr-chart");
      const one = [headX, { label: "PSNR, dB", stroke: css("--fused"), width: 2, value: numeric, spanGaps: false, points: { show: axisX.length < 40 } }];
      plots.push({ host: psnr, plot: chart(psnr, "PSNR (dB)", one, [chartX, onAxis(data.errors.psnr)]) });
    }
    showPixel();
  }

  // ---- the chosen pixel ----
  function showPixel() {
    const [row, col] = [rows[state.row], cols[state.col]];
    const [a, b, c, d, e, f] = data.grid.transform;
    const [x, y] = [a * (col + 0.5) + b * (row + 0.5) + c, d * (col + 0.5) + e * (row + 0.5) + f];
    const digits = Math.max(0, Math.min(8, 2 - Math.floor(Math.log10(Math.hypot(a, d)))));
    const where = data.grid.crs ? ` · x ${x.toFixed(digits)}, y ${y.toFixed(digits)} (${data.grid.crs})` : "";
    const values = Object.fromEntries(spectra.map((set) => [set.id, set.at(sample())]));
    const empty = values.fused.every((v) => v === null) ? " · no data here" : "";
    byId("pixel").textContent = `Row ${row}, column ${col}${where}${empty}`;
    const { plot, sets } = plots[0];
    plot.setData([chartX, ...sets.map((set) => (set.id === "msi" ? msiOnAxis(values.msi) : onAxis(values[set.id])))]);
    byId("pixel-error").textContent = values.reference ? difference(values.fused, values.reference) : "";
    if (byId("values").open) fillTable(values);
  }
  function difference(estimate, truth) {
    let [n, squares, ee, tt, et] = [0, 0, 0, 0, 0];
    estimate.forEach((value, i) => {
      if (value === null || truth[i] === null) return;
      n += 1; squares += (value - truth[i]) ** 2; ee += value ** 2; tt += truth[i] ** 2; et += value * truth[i];
    });
    if (!n || !ee || !tt) return "";
    const angle = (Math.acos(Math.min(1, et / Math.sqrt(ee * tt))) * 180) / Math.PI;
    return `Fused against reference here: RMSE ${shown(Math.sqrt(squares / n))}, spectral angle ${angle.toFixed(2)}°.`;
  }
  function fillTable(values) {
    const cells = (names, kind) => names.map((text, i) => {
      const cell = document.createElement(i && kind === "td" ? "td" : "th");
      if (cell.tagName === "TH") cell.scope = kind === "td" ? "row" : "col";
      cell.textContent = text;
      return cell;
    });
    const line = (names, kind) => { const row = document.createElement("tr"); row.append(...cells(names, kind)); return row; };
    const [head, body] = [byId("values").querySelector("thead"), byId("values").querySelector("tbody")];
    head.replaceChildren(line([data.axis.title, ...lines.map((set) => set.name)], "th"));
    body.replaceChildren(...order.map((band) => line([data.axis.wavelengths ? data.axis.x[band].toFixed(1) : data.axis.labels[band], ...lines.map((set) => shown(values[set.id][band]))], "td")));
  }

  // ---- what the reader does ----
  const nearest = (sorted, at) => sorted.reduce((best, value, i) => (Math.abs(value - at) < Math.abs(sorted[best] - at) ? i : best), 0);
  function choose(row, col) {
    state.row = Math.max(0, Math.min(rows.length - 1, row));
    state.col = Math.max(0, Math.min(cols.length - 1, col));
    showPixel();
    draw();
  }
  function click(event) {
    const box = event.currentTarget.getBoundingClientRect();
    choose(nearest(rows, ((event.clientY - box.top) / box.height) * height - 0.5), nearest(cols, ((event.clientX - box.left) / box.width) * width - 0.5));
  }
  function move(event) {
    const step = event.shiftKey ? 10 : 1;
    const by = { ArrowUp: [-step, 0], ArrowDown: [step, 0], ArrowLeft: [0, -step], ArrowRight: [0, step] }[event.key];
    if (!by) return;
    event.preventDefault();
    choose(state.row + by[0], state.col + by[1]);
  }
  function change(values) {
    Object.assign(state, values);
    describe();
    draw();
  }
  function showMap() {
    const map = data.errors.maps.find((m) => m.id === state.map);
    byId("colour-bar").firstElementChild.style.background = `linear-gradient(90deg, ${data.errors.colours.join(", ")})`;
    byId("colour-middle").textContent = shown(map.top / 2);
    byId("colour-top").textContent = `≥ ${shown(map.top)}`;
    byId("colour-title").textContent = `${map.title}${map.unit ? ` in ${map.unit}` : ", in the units of the reference"}; the last colour begins at percentile 98.`;
    byId("error-map").setAttribute("aria-label", `Map of the errors: ${map.title}, from 0 to ${shown(map.top)} and more`);
  }
  for (const radio of document.querySelectorAll("input[name=view]")) radio.addEventListener("change", () => change({ view: radio.value }));
  for (const radio of document.querySelectorAll("input[name=map]")) radio.addEventListener("change", () => { change({ map: radio.value }); showMap(); });
  for (const side of ["left", "right"]) if (byId(side)) byId(side).addEventListener("change", (event) => change({ [side]: event.target.value }));
  byId("band").addEventListener("input", (event) => change({ band: Number(event.target.value) }));
  if (byId("swipe")) byId("swipe").addEventListener("input", (event) => change({ swipe: Number(event.target.value) / 100 }));
  byId("stage").addEventListener("click", click);
  byId("stage").addEventListener("keydown", move);
  if (data.errors) byId("error-stage").addEventListener("click", click);
  byId("values").addEventListener("toggle", showPixel);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", build);
  new ResizeObserver(() => {
    for (const { host, plot } of plots) if (host.clientWidth && host.clientWidth !== plot.width) plot.setSize(size(host));
    draw();
  }).observe(document.querySelector("main"));

  function firstPixel() { // one with data, near the middle of the right half, where no handle covers it
    const fused = spectra.find((set) => set.id === "fused");
    const away = (i) => Math.hypot(Math.floor(i / cols.length) / rows.length - 0.5, (i % cols.length) / cols.length - 0.72);
    const near = Array.from(fused.pixel.keys()).sort((i, j) => away(i) - away(j));
    const found = near.find((i) => fused.at(i).some((v) => v !== null)) ?? near[0];
    Object.assign(state, { row: Math.floor(found / cols.length), col: found % cols.length });
  }
  firstPixel();
  change({ view: document.querySelector("input[name=view]:checked").value });
  build();
  if (data.errors) showMap();
})();
