"use strict";
// Without this script every timeline is on the page, one below the other; it adds the chooser and
// the cursor. Values come from the JSON beside each timeline: `at` is the position in per cent.

class Timeline {
  constructor(panel) {
    this.panel = panel;
    this.data = JSON.parse(panel.querySelector("script").textContent);
    this.area = panel.querySelector(".cursor-area");
    this.cursor = panel.querySelector(".cursor");
    this.slots = [...panel.querySelector(".strip").children];
    this.rows = [...panel.querySelectorAll("[data-class]")];
    this.button = panel.querySelector(".play");
    this.playing = 0;
    this.area.addEventListener("pointermove", (event) => this.point(event));
    this.area.addEventListener("pointerdown", (event) => this.point(event));
    this.area.addEventListener("keydown", (event) => this.key(event));
    this.button.addEventListener("click", () => this.toggle());
    this.show(Math.floor(this.data.at.length / 2));
  }

  show(tick) {
    const { at, times_s, shares, classes, num_slots } = this.data;
    this.tick = Math.max(0, Math.min(at.length - 1, tick));
    this.cursor.hidden = false;
    this.cursor.style.left = `${at[this.tick]}%`;
    const now = shares[this.tick];
    const leader = now.indexOf(Math.max(...now));
    this.rows.forEach((row, i) => {
      row.querySelector("b").textContent = `${Math.round(now[i] / 10)}%`;
      row.querySelector("s i").style.width = `${now[i] / 10}%`;
      row.classList.toggle("leads-now", i === leader);
    });
    const time = `${times_s[this.tick].toFixed(2)} s`;
    this.panel.querySelector(".now-time").textContent = time;
    this.area.setAttribute("aria-valuenow", times_s[this.tick]);
    this.area.setAttribute("aria-valuetext", `${time}: ${classes[leader]} ${Math.round(now[leader] / 10)}%`);
    this.face(Math.min(num_slots - 1, Math.floor((at[this.tick] / 100) * num_slots)));
  }

  face(slot) {
    if (slot === this.slot) return;
    this.slot = slot;
    this.panel.querySelector(".now-face").replaceChildren(this.slots[slot].cloneNode());
    // a phone shows every second slot only
    const shown = this.slots[slot].offsetParent ? slot : slot - (slot % 2);
    this.slots.forEach((element, i) => element.classList.toggle("now-slot", i === shown));
  }

  point(event) {
    this.stop();
    const box = this.area.getBoundingClientRect();
    const wanted = (100 * (event.clientX - box.left)) / box.width;
    const gaps = this.data.at.map((x) => Math.abs(x - wanted));
    this.show(gaps.indexOf(Math.min(...gaps)));
  }

  key(event) {
    const last = this.data.at.length - 1;
    const step = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10, Home: -last, End: last }[event.key];
    if (step !== undefined) { this.stop(); this.show(this.tick + step * (event.shiftKey ? 5 : 1)); }
    else if (event.key === " ") this.toggle();
    else return;
    event.preventDefault();
  }

  toggle() {
    if (this.playing) return this.stop();
    const { times_s } = this.data;
    if (this.tick === times_s.length - 1) this.show(0);
    const begin_s = times_s[this.tick] - performance.now() / 1000;
    const frame = () => {
      const now_s = begin_s + performance.now() / 1000;
      while (this.tick < times_s.length - 1 && times_s[this.tick + 1] <= now_s) this.show(this.tick + 1);
      this.playing = requestAnimationFrame(frame);
      if (this.tick === times_s.length - 1) this.stop();
    };
    this.button.textContent = "❚❚ Pause";
    this.playing = requestAnimationFrame(frame);
  }

  stop() {
    cancelAnimationFrame(this.playing);
    this.playing = 0;
    this.button.textContent = "▶ Play";
  }
}

const showPanel = new Map(); // id of a timeline to what opens it

for (const gallery of document.querySelectorAll(".gallery")) {
  const tabs = [...gallery.querySelectorAll("[role=tab]")];
  const timelines = [...gallery.querySelectorAll(".timeline")].map((panel) => new Timeline(panel));
  const choose = (chosen) => {
    tabs.forEach((tab, i) => {
      tab.setAttribute("aria-selected", i === chosen);
      tab.tabIndex = i === chosen ? 0 : -1;
      timelines[i].panel.hidden = i !== chosen;
      timelines[i].stop();
    });
  };
  tabs.forEach((tab, i) => {
    showPanel.set(timelines[i].panel.id, () => choose(i));
    tab.addEventListener("click", () => choose(i));
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step) return;
      const next = (i + step + tabs.length) % tabs.length;
      choose(next);
      tabs[next].focus();
    });
  });
  choose(0);
}

// a link to a timeline opens it and hands the focus on
const follow = (hash) => {
  const open = showPanel.get(hash.slice(1));
  if (!open) return;
  open();
  const panel = document.getElementById(hash.slice(1));
  panel.scrollIntoView();
  panel.querySelector(".cursor-area").focus({ preventScroll: true });
};
for (const link of document.querySelectorAll(".to-timeline"))
  link.addEventListener("click", (event) => { event.preventDefault(); follow(link.hash); });
follow(location.hash);

// what is wider than its place can be scrolled with the keyboard
const reachScrollers = () => {
  for (const part of document.querySelectorAll(".scroll, .contents div")) {
    if (part.scrollWidth > part.clientWidth) part.tabIndex = 0;
    else part.removeAttribute("tabindex");
  }
};
reachScrollers();
addEventListener("resize", reachScrollers);
addEventListener("toggle", reachScrollers, true); // a part that opens
