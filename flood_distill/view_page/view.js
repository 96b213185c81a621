"use strict";

const START_OPACITY = { vv: 1, probability: 0, water: 0.6, flood: 0 };
const opacity = { ...START_OPACITY };
const map = L.map("map", { attributionControl: false, zoomSnap: 0.5 }).setView([0, 0], 2);
L.control.scale({ imperial: false }).addTo(map);
let shown = {};

function element(tag, text, properties = {}) {
  return Object.assign(document.createElement(tag), { textContent: text, ...properties });
}

function show(scene, row) {
  Object.values(shown).forEach((layer) => layer.remove());
  shown = {};
  const [west, south, east, north] = scene.bbox;
  const bounds = L.latLngBounds([south, west], [north, east < west ? east + 360 : east]);
  for (const layer of scene.layers) {
    shown[layer.key] = L.tileLayer(layer.tiles, {
      bounds, opacity: opacity[layer.key], maxNativeZoom: scene.max_zoom, maxZoom: 20, tileSize: 256,
    }).addTo(map);
  }
  map.fitBounds(bounds);
  document.querySelectorAll("tr.chosen").forEach((old) => old.classList.remove("chosen"));
  row.classList.add("chosen");
  document.getElementById("notice").textContent =
    `${scene.stem}: a ${scene.source} scene; ${scene.model_name}, trained on ${scene.model_source} data`;
  drawSliders(scene);
}

function drawSliders(scene) {
  const box = document.getElementById("layers");
  box.replaceChildren();
  for (const layer of scene.layers) {
    const label = element("label", "");
    const name = element("span", "");
    if (layer.color) name.append(element("span", "", { className: "swatch", style: `background:${layer.color}` }));
    name.append(layer.title);
    const slider = element("input", "", { type: "range", min: 0, max: 100, id: `opacity-${layer.key}` });
    slider.value = 100 * opacity[layer.key];
    const output = element("output", `${slider.value} %`);
    slider.addEventListener("input", () => {
      opacity[layer.key] = slider.value / 100;
      shown[layer.key].setOpacity(opacity[layer.key]);
      output.textContent = `${slider.value} %`;
    });
    label.append(name, slider, output);
    box.append(label);
  }
}

function cells(row, values) {
  row.replaceChildren(...values.map((value) => element("td", value)));
}

function number(value) {
  return value === undefined ? "" : value.toLocaleString("en", { maximumFractionDigits: 2, minimumFractionDigits: 2 });
}

function drawTable(scenes, kinds) {
  const head = document.getElementById("head");
  head.replaceChildren(...["scene", ...kinds.map((kind) => `${kind.replaceAll("_", " ")}, km²`)].map((text) => element("th", text)));
  const body = document.getElementById("scenes");
  for (const scene of scenes) {
    const row = element("tr", "", { title: scene.stem });
    cells(row, [scene.stem, ...kinds.map((kind) => number(scene.area_km2[kind]))]);
    row.addEventListener("click", () => show(scene, row));
    body.append(row);
  }
  const sums = kinds.map((kind) => scenes.reduce((sum, scene) => sum + (scene.area_km2[kind] ?? 0), 0));
  cells(document.getElementById("total"), [`${scenes.length} scenes`, ...sums.map(number)]);
}

fetch("scenes").then((response) => response.json()).then(({ scenes, kinds }) => {
  drawTable(scenes, kinds);
  if (scenes.length) show(scenes[0], document.querySelector("#scenes tr"));
  else document.getElementById("notice").textContent = "No finished scene in this folder.";
});
