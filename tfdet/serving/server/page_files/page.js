"use strict";

const $ = (id) => document.getElementById(id);
const COLOURS = ["#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#008080", "#9a6324",
  "#f032e6", "#808000", "#000075"];
const MOST_ROWS = 50;

let models = [];
let image = null; // {bitmap, base64}
let found = null; // the prediction that is shown
let number = 0; // of the last request: answers that come late are dropped
let timer = 0;

const model = () => models.find((one) => one.name === $("model").value);

async function start() {
  const about = await (await fetch("page/about")).json();
  models = about.models;
  for (const one of models) {
    $("model").add(new Option(`${one.name} (version ${one.version})`, one.name));
  }
  $("model-label").hidden = models.length < 1;
  for (let i = 0; i < about.samples; i++) addSample(i);
  showModel();
  document.body.dataset.state = "ready";
}

function addSample(i) {
  const button = document.createElement("button");
  const picture = document.createElement("img");
  picture.src = `page/samples/${i}`;
  picture.alt = `Sample ${i + 1}`;
  button.append(picture);
  button.addEventListener("click", async () => {
    const answer = await fetch(picture.src);
    await take(await answer.blob());
    button.setAttribute("aria-pressed", "true");
  });
  $("samples").append(button);
}

function showModel() {
  const { name, calibration, is_dynamic, effort, threshold, slo_ms } = model();
  $("name").textContent = name;
  $("effort-box").hidden = !calibration;
  $("threshold-box").hidden = !is_dynamic || Boolean(calibration);
  $("effort").value = slo_ms ? 0 : effort ?? 1;
  $("threshold").value = threshold ?? 0;
  $("server-label").hidden = !slo_ms;
  $("server-chooses").checked = Boolean(slo_ms);
  $("server-text").textContent =
    `The server chooses, from this effort on, to answer within ${slo_ms} ms`;
  showSettings();
  detect();
}

function showSettings() {
  $("effort-value").textContent = Number($("effort").value).toFixed(2);
  $("threshold-value").textContent = Number($("threshold").value).toFixed(2);
  $("score-value").textContent = Number($("score").value).toFixed(2);
  const table = model().calibration;
  if (table) {
    const at = (values) => interpolate(values, Number($("effort").value));
    $("expected").textContent =
      `${amount(at(table.macs))} multiply-adds, ${at(table.latency_ms).toFixed(1)} ms per image ` +
      "by its calibration";
  }
}

function interpolate(values, part) {
  const place = part * (values.length - 1);
  const i = Math.min(Math.floor(place), values.length - 2);
  return values[i] + (place - i) * (values[i + 1] - values[i]);
}

function amount(value) {
  const units = [[1e9, "G"], [1e6, "M"], [1e3, "k"]];
  const [size, unit] = units.find(([one]) => value >= one) ?? [1, ""];
  return `${(value / size).toPrecision(3)} ${unit}`.trim();
}

async function take(blob) {
  for (const button of $("samples").children) button.setAttribute("aria-pressed", "false");
  found = null;
  // Boxes are in pixels of the upright image, as browsers show it.
  const bitmap = await createImageBitmap(blob).catch(() => null);
  image = { bitmap, base64: await base64(blob) };
  draw();
  await detect();
}

function base64(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}

function body() {
  const inputs = { encoded: [{ b64: image.base64 }] };
  const request = { signature_name: "serving_encoded", inputs };
  const { calibration, is_dynamic } = model();
  if (calibration && $("server-chooses").checked) {
    request.min_effort = Number($("effort").value);
  } else if (calibration) {
    inputs.effort = Number($("effort").value);
  } else if (is_dynamic) {
    inputs.threshold = Number($("threshold").value);
  }
  return JSON.stringify(request);
}

async function detect() {
  if (!image) return;
  const mine = ++number;
  document.body.dataset.state = "busy";
  const sent = performance.now();
  let answer, text, timing = "";
  try {
    const response = await fetch(`v1/models/${encodeURIComponent(model().name)}:predict`,
      { method: "POST", body: body() });
    timing = response.headers.get("Server-Timing") ?? "";
    answer = await response.json();
    text = answer.error;
  } catch (error) {
    text = `no answer: ${error.message}`;
  }
  if (mine !== number) return;
  $("error").hidden = !text;
  $("error").textContent = text ?? "";
  found = text ? null : row(answer.outputs);
  showFacts(found, timing, performance.now() - sent);
  draw();
  document.body.dataset.state = text ? "error" : "done";
}

function row(outputs) {
  return Object.fromEntries(Object.entries(outputs).map(([name, values]) => [name, values[0]]));
}

function showFacts(result, timing, whole) {
  const facts = [];
  if (result) {
    if (image.bitmap) facts.push(["Image", `${image.bitmap.width} × ${image.bitmap.height}`]);
    if ("is_hard" in result) {
      facts.push(["Route", result.is_hard ? "both detectors" : "first detector"]);
    }
    if ("easiness" in result) facts.push(["Easiness", result.easiness.toFixed(3)]);
    if ("gates" in result) facts.push(["Open gates", openGates(result.gates)]);
    if ("effort" in result) facts.push(["Effort it got", result.effort.toFixed(2)]);
    if ("macs" in result) facts.push(["Cost", `${amount(result.macs)} multiply-adds`]);
    const ms = Object.fromEntries([...timing.matchAll(/(\w+);dur=([\d.]+)/g)].map((x) => x.slice(1)));
    if (ms.detect) facts.push(["Network", `${ms.detect} ms`], ["In the queue", `${ms.queue} ms`]);
    facts.push(["Request to answer", `${whole.toFixed(0)} ms`]);
  }
  $("facts").replaceChildren(...facts.flatMap(([name, value]) => {
    const term = document.createElement("dt"), text = document.createElement("dd");
    term.textContent = name;
    text.textContent = value;
    return [term, text];
  }));
}

function openGates(gates) {
  const all = gates.flat(Infinity);
  return `${all.filter((gate) => gate > 0).length} of ${all.length}`;
}

function shown() {
  if (!found) return [];
  const least = Number($("score").value);
  return found.scores.slice(0, found.count)
    .map((score, i) => ({ score, label: found.labels[i], box: found.boxes[i] }))
    .filter(({ score }) => score >= least);
}

function draw() {
  const detections = shown();
  const canvas = $("picture");
  $("hint").hidden = Boolean(image?.bitmap);
  canvas.hidden = !image?.bitmap;
  if (image?.bitmap) paint(canvas, image.bitmap, detections);
  listDetections(detections);
}

function paint(canvas, bitmap, detections) {
  // Small images are drawn larger, so that names can be read.
  const scale = Math.max(1, Math.round(640 / Math.max(bitmap.width, bitmap.height)));
  canvas.width = bitmap.width * scale;
  canvas.height = bitmap.height * scale;
  const pen = canvas.getContext("2d");
  pen.imageSmoothingEnabled = false;
  pen.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  const unit = canvas.width / (canvas.clientWidth || canvas.width); // of the screen
  pen.lineWidth = 2 * unit;
  pen.font = `${14 * unit}px sans-serif`;
  pen.textBaseline = "bottom";
  for (const { score, label, box } of detections.slice().reverse()) {
    const [left, top, right, bottom] = box.map((x) => x * scale);
    const text = `${model().class_names[label]} ${score.toFixed(2)}`;
    pen.strokeStyle = pen.fillStyle = COLOURS[label % COLOURS.length];
    pen.strokeRect(left, top, right - left, bottom - top);
    const line = Math.max(top, 18 * unit);
    pen.fillRect(left, line - 18 * unit, pen.measureText(text).width + 6 * unit, 18 * unit);
    pen.fillStyle = "white";
    pen.fillText(text, left + 3 * unit, line - 1 * unit);
  }
}

function listDetections(detections) {
  $("found").hidden = !found;
  const rows = detections.slice(0, MOST_ROWS).map(({ score, label, box }) => {
    const line = document.createElement("tr");
    const name = model().class_names[label];
    for (const text of [name, score.toFixed(3), box.map((x) => x.toFixed(0)).join(", ")]) {
      line.insertCell().textContent = text;
    }
    return line;
  });
  $("found").tBodies[0].replaceChildren(...rows);
}

function soon() {
  showSettings();
  clearTimeout(timer);
  timer = setTimeout(detect, 100);
}

$("model").addEventListener("change", showModel);
$("effort").addEventListener("input", soon);
$("threshold").addEventListener("input", soon);
$("server-chooses").addEventListener("change", soon);
$("score").addEventListener("input", () => { showSettings(); draw(); });
$("drop").addEventListener("click", () => $("file").click());
$("drop").addEventListener("keydown", (event) => { if (event.key === "Enter") $("file").click(); });
$("file").addEventListener("click", (event) => event.stopPropagation());
$("file").addEventListener("change", () => { if ($("file").files[0]) take($("file").files[0]); });
for (const [name, isOver] of [["dragover", true], ["dragleave", false], ["drop", false]]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", isOver);
  });
}
document.addEventListener("drop", (event) => {
  if (event.dataTransfer.files[0]) take(event.dataTransfer.files[0]);
});
document.addEventListener("paste", (event) => {
  if (event.clipboardData.files[0]) take(event.clipboardData.files[0]);
});
start();
