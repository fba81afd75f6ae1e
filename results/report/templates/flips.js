"use strict";
// Compares two cases image by image. All data is inserted as text.
(() => {
  const place = document.getElementById("flips");
  if (!place) return;
  const { groups, cases } = JSON.parse(place.textContent);
  const MOST = 24;

  const line = (words, kind) => {
    const span = document.createElement("span");
    span.textContent = words;
    if (kind) span.className = kind;
    return span;
  };

  const card = (group, n, a, b) => {
    const item = document.createElement("li");
    const name = group.files[n] ?? "image " + group.ids[n], label = group.classes[group.labels[n]];
    if (group.pictures[n]) {
      const image = document.createElement("img");
      image.src = group.pictures[n];
      image.alt = `Test ${name}, label ${label}`;
      item.append(image);
    }
    item.title = name;
    item.append(line(group.pictures[n] ? label : `${name}: ${label}`));
    for (const [side, one] of [["A", a], ["B", b]]) {
      const right = one.predicted[n] === group.labels[n];
      item.append(line(`${side} ${right ? "✓" : "✗ " + group.classes[one.predicted[n]]} ${one.confidence[n]} %`, right ? "right" : "wrong"));
    }
    return item;
  };

  const compare = ({ one, other }) => {
    const result = document.getElementById("flips-result"), shown = document.getElementById("flips-shown");
    const a = cases[one], b = cases[other];
    shown.replaceChildren();
    if (!a || !b || a.group !== b.group) {
      result.textContent = "These two cases have different test images, or this page does not have their predictions.";
      return;
    }
    const group = groups[a.group];
    const counts = { both: 0, a: 0, b: 0, none: 0 }, flips = [];
    group.labels.forEach((label, n) => {
      const [left, right] = [a.predicted[n] === label, b.predicted[n] === label];
      counts[left && right ? "both" : left ? "a" : right ? "b" : "none"] += 1;
      if (left !== right) flips.push(n);
    });
    const pictured = flips.filter((n) => n in group.pictures), from = pictured.length ? pictured : flips;
    const seen = from.filter((n, place) => from.length <= MOST || Math.floor(place * MOST / from.length) !== Math.floor((place - 1) * MOST / from.length));
    result.textContent = `Correct predictions for ${group.labels.length} images: both cases ${counts.both}, only A ${counts.a}, only B ${counts.b}, `
      + `neither ${counts.none}.` + (flips.length > seen.length ? ` ${seen.length} of the ${flips.length} images that differ are shown.` : "");
    shown.append(...seen.map((n) => card(group, n, a, b)));
  };
  document.addEventListener("applied", (event) => compare(event.detail));
})();
