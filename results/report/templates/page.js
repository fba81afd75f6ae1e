"use strict";
// Draws the charts, filters them, and stores the state of the page in the address.
(() => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const charts = read("charts"), config = read("config");
  const root = document.documentElement;
  const state = new URLSearchParams(location.hash.includes("=") ? location.hash.slice(1) : "");
  const views = new Map();
  const boxes = [...document.querySelectorAll("#filters input")];
  const choices = [...document.querySelectorAll("select[name]")];
  const FACETS = [...new Set(boxes.map((box) => box.name))];

  const hidden = () => {
    const left = { backend: [], model: [], scenario: [], setting: [], run: [] };
    for (const box of boxes) if (!box.checked) left[box.name].push(box.value);
    return left;
  };

  const remember = () => {
    for (const name of [...FACETS, ...choices.map((choice) => choice.name)]) state.delete(name);
    for (const box of boxes) if (!box.checked) state.append(box.name, box.value);
    for (const choice of choices) if (!choice.options[choice.selectedIndex].defaultSelected) state.set(choice.name, choice.value);
    history.replaceState(null, "", state.size ? "#" + state : location.pathname + location.search);
  };

  const recall = () => {
    for (const box of boxes) box.checked = !state.getAll(box.name).includes(box.value);
    for (const choice of choices) {
      const wanted = state.get(choice.name);
      if (wanted !== null && [...choice.options].some((option) => option.value === wanted)) choice.value = wanted;
    }
  };

  const set = (view, signals) => {
    for (const [name, value] of Object.entries(signals)) {
      try { view.signal(name, value); } catch { /* the chart does not have this signal */ }
    }
    return view.runAsync();
  };

  const signals = () => Object.fromEntries([["hidden", hidden()], ...choices.map((choice) => [choice.name, choice.value])]);

  const apply = async () => {
    const left = hidden();
    for (const name of FACETS) {
      for (const element of document.querySelectorAll(`main [data-${name}]`)) {
        element.hidden = FACETS.some((facet) => element.dataset[facet] !== undefined && left[facet].includes(element.dataset[facet]));
      }
    }
    const gone = FACETS.filter((name) => left[name].length);
    const status = document.getElementById("filtered");
    if (status) status.textContent = gone.length ? "– active: " + gone.join(", ") : "";
    await Promise.all([...views.values()].map((view) => set(view, signals())));
    for (const prediction of document.querySelectorAll("[data-case]")) prediction.hidden = prediction.dataset.case !== signals().seen;
    for (const gallery of document.querySelectorAll("[data-cases]")) gallery.hidden = !gallery.dataset.cases.split(" ").includes(signals().seen);
    document.dispatchEvent(new CustomEvent("applied", { detail: signals() }));
  };

  const change = () => { remember(); return apply(); };
  for (const input of [...boxes, ...choices]) input.addEventListener("change", change);
  document.querySelector("#filters form")?.addEventListener("reset", () => setTimeout(change));

  // Links to sections scroll the page and keep the state in the address.
  for (const link of document.querySelectorAll('a[href^="#"]')) {
    link.addEventListener("click", (event) => {
      const target = document.getElementById(link.hash.slice(1));
      if (!target) return;
      event.preventDefault();
      state.set("at", target.id);
      remember();
      go(target);
    });
  }
  const go = (target) => {
    target.scrollIntoView();
    const title = target.querySelector("h2");
    if (title) { title.tabIndex = -1; title.focus({ preventScroll: true }); }
  };

  const button = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const paint = () => {
    const dark = (state.get("theme") ?? (system.matches ? "dark" : "light")) === "dark";
    root.dataset.theme = dark ? "dark" : "light";
    button.setAttribute("aria-pressed", String(dark));
  };
  button.addEventListener("click", () => {
    state.set("theme", root.dataset.theme === "dark" ? "light" : "dark");
    remember();
    paint();
  });
  system.addEventListener("change", paint);

  // Print on white, with all tables open.
  addEventListener("beforeprint", () => {
    root.dataset.theme = "light";
    for (const details of document.querySelectorAll("details.numbers")) { details.dataset.was = details.open; details.open = true; }
  });
  addEventListener("afterprint", () => {
    paint();
    for (const details of document.querySelectorAll("details.numbers")) details.open = details.dataset.was === "true";
  });

  const options = {
    ast: true, actions: false, logLevel: 1, renderer: "svg", defaultStyle: false, config,
    tooltip: { disableDefaultStyle: true }, // page.css has the style, because the policy forbids an inline one
  };
  const draw = async (id) => {
    const place = document.getElementById(id);
    try {
      const { view } = await vegaEmbed(place, charts[id], options);
      views.set(id, view);
      place.querySelector("svg").setAttribute("aria-hidden", "true"); // the element around it has the role and the label
      await set(view, signals());
    } catch (error) {
      place.textContent = "This chart could not be drawn: " + error.message;
      console.error(id, error);
    }
  };
  // One after the other in reading order, so the page stays responsive.
  const drawAll = async () => {
    for (const id of Object.keys(charts)) {
      await draw(id);
      await new Promise((next) => setTimeout(next));
    }
    root.dataset.drawn = String(views.size);
  };

  recall();
  paint();
  apply();
  const target = document.getElementById(state.get("at") ?? location.hash.slice(1));
  if (target) go(target);
  window.report = { views, state };
  root.dataset.ready = performance.now().toFixed(); // milliseconds until filters and links work
  drawAll();
})();
