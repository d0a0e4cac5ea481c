"use strict";
(() => {
  const one = (selector, root = document) => root.querySelector(selector);
  const every = (selector, root = document) => [...root.querySelectorAll(selector)];

  const tiles = every(".tile");
  if (!tiles.length) return;

  const bar = one(".bar");
  const chips = every(".chips button");
  const search = one("[type=search]");
  const outlineSwitch = one(".outline-switch");
  const view = one("dialog.view");
  const help = one("dialog.help");
  const stage = one(".stage");
  const thumbs = one(".thumbs");
  const thinned = one(".count").textContent;

  bar.hidden = false;

  // A map is easier to place over a pale copy of the picture. A copy made here costs no bytes in the file.
  for (const tile of tiles) {
    const picture = one(".after img", tile);
    if (!picture) continue;
    for (const map of every(".changed img, .judged img", tile)) {
      const ghost = picture.cloneNode();
      ghost.alt = "";
      ghost.className = "ghost";
      map.before(ghost);
    }
  }

  // Filters.

  let group = "all";
  const shown = () => tiles.filter((tile) => !tile.hidden);

  function filter() {
    const words = search.value.trim().toLowerCase();
    for (const tile of tiles) {
      const text = `${tile.dataset.key}\n${one(".caption", tile)?.textContent ?? ""}`.toLowerCase();
      tile.hidden = !((group === "all" || tile.dataset.group === group) && text.includes(words));
    }
    for (const chip of chips) chip.setAttribute("aria-pressed", String(chip.dataset.group === group));
    const left = shown();
    one(".nothing").hidden = left.length > 0;
    const narrowed = left.length < tiles.length ? `Showing ${left.length} of ${tiles.length}. ` : "";
    one(".count").textContent = narrowed + thinned;
    if (!left.includes(active)) activate(left[0] ?? null);
  }

  function choose(name) {
    group = chips.some((chip) => chip.dataset.group === name) ? name : "all";
    filter();
  }

  for (const chip of chips) chip.addEventListener("click", () => choose(chip.dataset.group));
  search.addEventListener("input", filter);

  function outline(on) {
    outlineSwitch.checked = on;
    document.documentElement.classList.toggle("plain", !on);
  }
  outlineSwitch.addEventListener("change", () => outline(outlineSwitch.checked));

  // Focus: one tile at a time is in the tab order, and the arrows move it.

  let active = null;

  function activate(tile, focus = false) {
    active = tile;
    for (const other of tiles) one(".open", other).tabIndex = other === tile ? 0 : -1;
    if (tile && focus) {
      one(".open", tile).focus({ preventScroll: true });
      tile.scrollIntoView({ block: "nearest" });
    }
  }

  function neighbour(tile, key) {
    const list = shown();
    const at = list.indexOf(tile);
    if (key === "ArrowLeft") return list[at - 1];
    if (key === "ArrowRight") return list[at + 1];
    if (key === "Home") return list[0];
    if (key === "End") return list[list.length - 1];
    const side = key === "ArrowDown" ? 1 : -1;
    const box = (other) => other.getBoundingClientRect();
    const here = box(tile);
    const beyond = list.filter((other) => side * (box(other).top - here.top) > 1);
    const near = (other) => side * (box(other).top - here.top) * 1e5 + Math.abs(box(other).left - here.left);
    return beyond.sort((a, b) => near(a) - near(b))[0];
  }

  // The view of one sample.

  const NAMES = ["before", "after", "scores", "changed", "judged"];
  let current = null;
  let chosen = "after";
  let held = false;

  const has = (name) => Boolean(one(`.panel.${name}`, stage));

  function look() {
    let name = chosen;
    if (held) name = chosen === "before" ? "after" : "before";
    if (!has(name)) name = has(chosen) ? chosen : NAMES.find(has);
    for (const panel of every(".panel", stage)) panel.classList.toggle("seen", panel.classList.contains(name));
    for (const thumb of every("button", thumbs)) thumb.setAttribute("aria-pressed", String(thumb.dataset.name === name));
    one(".seeing strong").textContent = one(".panel.seen figcaption", stage)?.textContent ?? "";
  }

  function fill(tile) {
    current = tile;
    activate(tile);
    held = false;
    one("#view-title").textContent = tile.dataset.key;
    const badge = one(".head .badge", view);
    badge.textContent = one(".badge", tile).textContent;
    badge.className = `badge ${tile.classList.contains("accepted") ? "accepted" : "rejected"}`;
    for (const name of ["detail", "caption"]) {
      one(`.right .${name}`).textContent = one(`.${name}`, tile)?.textContent ?? "";
    }
    one(".right .facts").replaceChildren(...one(".facts", tile).cloneNode(true).children);

    const panels = every(".panel", tile);
    stage.replaceChildren(...panels.map((panel) => panel.cloneNode(true)));
    if (!panels.length) stage.append(one(".missing", tile).cloneNode(true));
    thumbs.replaceChildren(...panels.map((panel) => {
      const name = NAMES.find((word) => panel.classList.contains(word));
      const thumb = document.createElement("button");
      thumb.type = "button";
      thumb.dataset.name = name;
      thumb.className = name;
      const label = document.createElement("span");
      label.textContent = one("figcaption", panel).textContent;
      thumb.append(one(".picture", panel).cloneNode(true), label);
      for (const image of every("img", thumb)) image.alt = "";
      thumb.addEventListener("click", () => { chosen = name; look(); });
      return thumb;
    }));
    one(".seeing").hidden = !panels.length;
    one(".hint").hidden = !(has("before") && has("after"));
    one(".copy").textContent = "Copy key";

    const list = shown();
    const at = list.indexOf(tile);
    one(".place").textContent = `${at + 1} of ${list.length}`;
    one(".previous").disabled = at <= 0;
    one(".next").disabled = at >= list.length - 1;
    chosen = has(chosen) ? chosen : NAMES.findLast(has) ?? "after";
    look();
  }

  function open(tile) {
    chosen = "after";
    fill(tile);
    view.showModal();
    one("#view-title").focus();
    view.scrollTop = 0;
  }

  function step(key) {
    const tile = neighbour(current, key);
    if (tile) fill(tile);
  }

  function hold(on) {
    if (held === on) return;
    held = on;
    look();
  }

  for (const tile of tiles) {
    one(".open", tile).addEventListener("click", () => open(tile));
    one(".open", tile).addEventListener("focus", () => activate(tile));
  }
  view.addEventListener("close", () => {
    held = false;
    activate(current, true);
  });
  one(".previous").addEventListener("click", () => step("ArrowLeft"));
  one(".next").addEventListener("click", () => step("ArrowRight"));
  stage.addEventListener("pointerdown", () => hold(true));
  stage.addEventListener("contextmenu", (event) => { if (held) event.preventDefault(); });
  for (const name of ["pointerup", "pointercancel", "blur"]) window.addEventListener(name, () => hold(false));

  for (const dialog of [view, help]) {
    one(".close", dialog).addEventListener("click", () => dialog.close());
    dialog.addEventListener("click", (event) => {
      if (event.target === dialog) dialog.close();
      // A button that was clicked keeps the focus, and would take the Space that is meant to flip.
      else if (event.detail > 0 && dialog.open) one("h2", dialog).focus();
    });
  }
  one(".help-button").addEventListener("click", () => help.showModal());

  one(".copy").addEventListener("click", async () => {
    const key = current.dataset.key;
    let copied = true;
    try {
      await navigator.clipboard.writeText(key);
    } catch {
      copied = select(key);
    }
    one(".copy").textContent = copied ? "Copied" : "Not allowed";
  });

  // Outside secure contexts there is no clipboard object, but a selected text can be copied.
  function select(text) {
    const field = document.createElement("textarea");
    field.value = text;
    view.append(field);
    field.select();
    const done = document.execCommand("copy");
    field.remove();
    return done;
  }

  // Keys.

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = event.target.matches("input:not([type=checkbox])");
    if (typing) {
      if (event.key === "Enter" || event.key === "ArrowDown") {
        event.preventDefault(); // or the tile that takes the focus would be opened by the same Enter
        activate(active, true);
      }
      return;
    }
    if (help.open) {
      if (event.key === "?") help.close();
      return;
    }
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (event.repeat && "fma?".includes(key)) return;
    const done = view.open ? viewKey(key, event.target) : gridKey(key, event.target);
    if (done || commonKey(key)) event.preventDefault();
  });
  document.addEventListener("keyup", (event) => { if (event.key === " ") hold(false); });

  function viewKey(key, target) {
    if (key === "ArrowLeft" || key === "ArrowRight") {
      step(key);
      return true;
    }
    if (key === " " && !target.matches("button")) {
      hold(true);
      return true;
    }
    if (key === "f") {
      chosen = chosen === "after" ? "before" : "after";
      look();
      return true;
    }
    return false;
  }

  function gridKey(key, target) {
    if (key === "a") {
      choose(group === "all" ? "accepted" : "all");
      return true;
    }
    if (key === "/") {
      search.focus();
      return true;
    }
    const onTile = target.matches(".open");
    if (key.startsWith("Arrow")) {
      const visible = (tile) => tile.getBoundingClientRect().bottom > bar.offsetHeight;
      const next = onTile ? neighbour(active, key) : shown().find(visible);
      if (next) activate(next, true);
      return Boolean(next);
    }
    if (onTile && (key === "Home" || key === "End")) {
      activate(neighbour(active, key), true);
      return true;
    }
    return false;
  }

  function commonKey(key) {
    if (key === "m") outline(!outlineSwitch.checked);
    else if (key === "?") help.showModal();
    else return false;
    return true;
  }

  activate(tiles[0]);
})();
