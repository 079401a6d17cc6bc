// What the pages can do without, made nicer: keys, copying, opening and marking what was searched for.
"use strict";

const typing = (element) => element.closest("input, select, textarea, [contenteditable]") !== null;

// -- keys: / searches, j and k go along, [ and ] turn the page

function step(by) {
  const rows = [...document.querySelectorAll(".turn, .hit-row, .rows > li, .cards > li")];
  if (rows.length === 0) return;
  const held = rows.findIndex((row) => row.contains(document.activeElement));
  const next = rows[Math.min(rows.length - 1, Math.max(0, held === -1 ? (by > 0 ? 0 : rows.length - 1) : held + by))];
  const target = next.querySelector("a.name") || next.querySelector("summary") || next;
  target.focus({ preventScroll: true });
  next.scrollIntoView({ block: "nearest" });
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
  const link = { "[": "prev", "]": "next" }[event.key];
  if (event.key === "/") {
    const field = document.getElementById("q") || document.getElementById("find");
    if (field === null) return;
    field.focus();
    field.select();
  } else if (event.key === "j" || event.key === "k") {
    step(event.key === "j" ? 1 : -1);
  } else if (link !== undefined) {
    const found = document.querySelector(`a[rel="${link}"]`);
    if (found === null) return;
    found.click();
  } else {
    return;
  }
  event.preventDefault();
});

// -- copying

for (const button of document.querySelectorAll("button[data-copy]")) {
  const field = document.getElementById(button.dataset.copy);
  button.hidden = false;
  button.addEventListener("click", async () => {
    field.select();
    try {
      await navigator.clipboard.writeText(field.value);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Press Ctrl+C";
    }
  });
}

// -- times in the reader's own zone

for (const time of document.querySelectorAll("time[datetime]")) {
  const moment = new Date(time.dateTime);
  if (!Number.isNaN(moment.valueOf())) time.title = moment.toLocaleString();
}

// -- a hit that the address does not name

const hit = document.querySelector(".turn.hit");
if (hit !== null && location.hash === "") {
  hit.scrollIntoView({ block: "start" });
  hit.focus({ preventScroll: true });
}

// -- the words that were searched for, marked without changing the page

function markWords() {
  const place = document.querySelector("[data-marked]");
  const query = new URLSearchParams(location.search).get("q");
  if (place === null || !query || typeof Highlight === "undefined") return;
  const words = (query.toLowerCase().match(/[\p{L}\p{N}_]{2,}/gu) || []).filter((word, _, all) => word.length > 3 || all.length < 3);
  const ranges = [];
  const walker = document.createTreeWalker(place, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node !== null && ranges.length < 2000; node = walker.nextNode()) {
    const text = node.data.toLowerCase();
    if (text.length !== node.data.length) continue;
    for (const word of words) {
      for (let at = text.indexOf(word); at !== -1; at = text.indexOf(word, at + word.length)) {
        const range = new Range();
        range.setStart(node, at);
        range.setEnd(node, at + word.length);
        ranges.push(range);
      }
    }
  }
  CSS.highlights.set("looked-for", new Highlight(...ranges));
}

markWords();
