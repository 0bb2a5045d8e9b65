// The playground: pictures and words go to the server's API, and what comes back is shown. Nothing is stored.

import { events, headers } from "./api.js";
import { canvasOf, fileOf, painter } from "./painter.js";

const LARGE = 4 * 2 ** 20;     // a larger file is scaled down before it is sent
const LONGEST = 1536;          // to this side
const $ = (selector, inside = document) => inside.querySelector(selector);
const $$ = (selector, inside = document) => [...inside.querySelectorAll(selector)];

/* ---- Work ---- */

let work = null;               // what is under way, so that it can be stopped

const say = (text) => { $("#status").textContent = text; };
const complain = (text) => { $("#error").textContent = text; };

// Do what a form asks for, with its buttons as they should be meanwhile.
async function during(form, what, task) {
  if (work) return;
  work = new AbortController();
  complain("");
  say(`${what} has begun`);
  const [start, stop] = [$(".primary", form), $(".stop", form)];
  start.disabled = true;
  stop.hidden = false;
  try {
    await task();
    say(`${what} is done`);
  } catch (error) {
    if (error.name === "AbortError") say(`${what} was stopped`);
    else complain(error.message);
  } finally {
    work = null;
    start.disabled = false;
    if (document.activeElement === stop) start.focus();
    stop.hidden = true;
  }
}

async function findModels() {
  const response = await fetch("v1/models", { headers: headers() });
  if (response.status === 401) { $("#key").placeholder = "this server asks for one"; return; }
  if (!response.ok) return;
  const { data } = await response.json();
  $("#model").replaceChildren(...data.map(({ id }) => new Option(id, id)));
}

const model = () => ($("#model").value ? { model: $("#model").value } : {});

/* ---- Pictures ---- */

const pictures = { ask: null, edit: null };
const loaded = (blob) => createImageBitmap(blob);

async function small(blob) {
  if (blob.size <= LARGE) return blob;
  const image = await loaded(blob);
  const scale = Math.min(1, LONGEST / Math.max(image.width, image.height));
  const canvas = canvasOf(Math.round(image.width * scale), Math.round(image.height * scale));
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  return fileOf(canvas, "image/jpeg");
}

const dataUrl = (blob) => new Promise((done, fail) => {
  const reader = new FileReader();
  reader.onload = () => done(reader.result);
  reader.onerror = () => fail(reader.error);
  reader.readAsDataURL(blob);
});

async function take(place, blob) {
  complain("");
  let image;
  try { image = await loaded(blob); } catch { complain("This is no picture that a browser can read."); return; }
  pictures[place] = blob;
  const box = $(`[data-picture="${place}"]`);
  $(".empty", box).hidden = true;
  if (place === "edit") {
    painter.begin(image);
  } else {
    const shown = $("img", box);
    URL.revokeObjectURL(shown.src);
    Object.assign(shown, { src: URL.createObjectURL(blob), alt: "The picture you ask about", hidden: false });
  }
  say("The picture is there");
}

for (const box of $$("[data-picture]")) {
  const place = box.dataset.picture;
  const drop = $(".drop", box);
  $("input", box).addEventListener("change", ({ target }) => {
    if (target.files[0]) take(place, target.files[0]);
    target.value = "";
  });
  for (const kind of ["dragover", "dragleave", "drop"]) {
    drop.addEventListener(kind, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", kind === "dragover");
      if (kind === "drop" && event.dataTransfer.files[0]) take(place, event.dataTransfer.files[0]);
    });
  }
  const samples = ["Barack Obama", "Eileen Collins", "Grace Hopper", "Joe Biden"].map((name) => {
    const button = document.createElement("button");
    const src = `playground/portraits/${name.toLowerCase().replace(" ", "-")}`;
    const image = Object.assign(new Image(), { src, alt: name });
    button.type = "button";
    button.append(image);
    button.addEventListener("click", async () => take(place, await (await fetch(image.src)).blob()));
    return button;
  });
  $(".samples", box).append(...samples);
}

document.addEventListener("paste", (event) => {
  const file = [...event.clipboardData.files].find((one) => one.type.startsWith("image/"));
  const place = $("#panel-edit").hidden ? "ask" : "edit";
  if (!file) return;
  event.preventDefault();
  if (!$("#panel-draw").hidden) show("ask");
  take(place, file);
});

/* ---- Painting ---- */

$("#clear").addEventListener("click", () => { painter.clear(); say("The paint is gone"); });
$("#mark").addEventListener("click", () => {
  const sides = ["left", "top", "right", "bottom"].map((name) => $("#edit-form").elements[name].valueAsNumber);
  if (!(sides[0] < sides[2] && sides[1] < sides[3])) { complain("Left must be less than right, and top less than bottom."); return; }
  painter.box(...sides);
  say("The box is marked");
});

/* ---- The three things to do ---- */

$("#ask-form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!pictures.ask) { complain("Choose a picture first."); return; }
  during(event.target, "The answer", async () => {
    const [answer, facts] = [$("#answer"), $("#answer-facts")];
    answer.textContent = facts.textContent = "";
    answer.setAttribute("aria-busy", "true");  // read aloud when it is whole
    const began = performance.now();
    const seconds = () => ((performance.now() - began) / 1000).toFixed(2);
    let first = null;
    try {
      const content = [
        { type: "image_url", image_url: { url: await dataUrl(await small(pictures.ask)) } },
        { type: "text", text: $("#question").value },
      ];
      const request = { ...model(), messages: [{ role: "user", content }], stream: true, stream_options: { include_usage: true } };
      for await (const chunk of events("v1/chat/completions", request, work.signal)) {
        const text = chunk.choices[0]?.delta.content;
        if (text) { first ??= seconds(); answer.append(text); }
        if (chunk.usage) facts.textContent = `${chunk.usage.completion_tokens} tokens in ${seconds()} s, the first after ${first ?? seconds()} s`;
      }
    } finally { answer.removeAttribute("aria-busy"); }
  });
});

// Show what a stream of drawings brings.
async function follow(figure, stream, steps, name) {
  const [image, bar, caption, after] = ["img", "progress", "figcaption", ".after"].map((one) => $(one, figure));
  const began = performance.now();
  if ($(".empty", figure)) $(".empty", figure).hidden = true;
  Object.assign(bar, { hidden: false, value: 0, max: steps });
  after.hidden = true;
  caption.textContent = "";
  let seen = 0;
  try {
    for await (const event of stream) {
      if (!event.b64_json) continue;
      const src = `data:image/${event.output_format ?? "png"};base64,${event.b64_json}`;
      const done = event.type.endsWith("completed");
      Object.assign(image, { src, hidden: false, alt: done ? name : `${name}, not done yet` });
      seen += 1;
      bar.value = done ? steps : Math.min(seen, steps);
      if (!done) { caption.textContent = `step ${seen} of ${steps}`; continue; }
      caption.textContent = `${steps} steps in ${((performance.now() - began) / 1000).toFixed(1)} s`;
      $("a", after).href = src;
      after.hidden = false;
    }
  } finally { bar.hidden = true; }
}

for (const place of $$(".drawing-settings")) place.append($("#drawing-settings").content.cloneNode(true));

function settings(form) {
  const { steps, guidance, seed } = form.elements;
  const given = { steps: steps.valueAsNumber, guidance: guidance.valueAsNumber, partial_images: steps.valueAsNumber, stream: true };
  return seed.value === "" ? given : { ...given, seed: seed.valueAsNumber };
}

$("#draw-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const request = { ...model(), ...settings(event.target), prompt: $("#prompt").value };
  during(event.target, "The drawing", () =>
    follow($("#drawn"), events("v1/images/generations", request, work.signal), request.steps, `A drawn face: ${request.prompt}`));
});

$("#edit-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  if (!pictures.edit) { complain("Choose a picture first."); return; }
  const mask = await painter.file();
  if (!mask) { complain("Paint over the part that is to be drawn anew, or mark a box."); return; }
  const given = { ...model(), ...settings(event.target), prompt: $("#change").value };
  const body = new FormData();
  for (const [name, value] of Object.entries(given)) body.append(name, value);
  body.append("image", await fileOf(painter.picture), "face.png");
  body.append("mask", mask, "mask.png");
  during(event.target, "The edit", () =>
    follow($("#edited"), events("v1/images/edits", body, work.signal), given.steps, `The face, changed: ${given.prompt}`));
});

/* ---- Around them ---- */

function show(name, focus = false) {
  for (const tab of $$("[role=tab]")) {
    const chosen = tab.id === `tab-${name}`;
    tab.setAttribute("aria-selected", chosen);
    tab.tabIndex = chosen ? 0 : -1;
    $(`#${tab.getAttribute("aria-controls")}`).hidden = !chosen;
    if (chosen && focus) tab.focus();
  }
  complain("");
}

const tabs = $$("[role=tab]");
tabs.forEach((tab, index) => {
  tab.addEventListener("click", () => show(tab.id.slice(4)));
  tab.addEventListener("keydown", ({ key }) => {
    const to = { ArrowRight: index + 1, ArrowLeft: index - 1, Home: 0, End: tabs.length - 1 }[key];
    if (to !== undefined) show(tabs[(to + tabs.length) % tabs.length].id.slice(4), true);
  });
});

for (const chip of $$(".chip")) chip.addEventListener("click", () => { $("#question").value = chip.textContent; });
for (const stop of $$(".stop")) stop.addEventListener("click", () => work?.abort());
for (const button of $$("[data-send]")) {
  button.addEventListener("click", async () => {
    const source = $("img", button.closest("figure")).src;
    const bytes = Uint8Array.from(atob(source.split(",")[1]), (letter) => letter.charCodeAt(0));
    show(button.dataset.send, true);
    take(button.dataset.send, new Blob([bytes], { type: source.slice(5, source.indexOf(";")) }));
  });
}
$("#settings").addEventListener("submit", (event) => event.preventDefault());
$("#key").addEventListener("change", findModels);
findModels();
