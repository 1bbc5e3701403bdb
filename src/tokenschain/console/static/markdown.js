/* Markdown as models write it, made of DOM nodes. Never HTML: what is not understood stays text. */
const DEPTH_MAX = 8;
const INLINE = /(`{1,3})([^\n]{0,400}?[^`\n])\1(?!`)|\*\*([^\n]{1,500}?)\*\*|(?<![\w*])\*([^\s*][^*\n]{0,2000}?)\*(?![\w*])|~~([^~\n]{1,2000})~~|!?\[([^\]\n]{1,500})\]\(([^\s()]{1,2000})\)|(https?:\/\/[^\s<>"'`)\]，。；、）】」]{1,2000})/g;
const ITEM = /^(\s*)([-*+]|\d{1,9}[.)])\s+(.*)$/;
const STARTS = /^\s{0,3}(#{1,6}\s|>|```|~~~|([-*_])(\s*\2){2,}\s*$)/;

function node(tag, ...children) {
  const made = document.createElement(tag);
  made.append(...children);
  return made;
}

// Addresses of the web alone; nothing is loaded before somebody follows one.
function link(address, children) {
  let url;
  try { url = new URL(address); } catch { return null; }
  if (url.protocol !== "https:" && url.protocol !== "http:") return null;
  const made = node("a", ...children);
  made.href = url.href;
  made.target = "_blank";
  made.rel = "noopener noreferrer nofollow";
  made.title = url.href;
  return made;
}

function inline(text, depth = 0) {
  const found = [];
  let at = 0;
  if (depth < DEPTH_MAX) for (const match of text.matchAll(INLINE)) {
    const [whole, , code, strong, em, gone, label, target, bare] = match;
    let made = null;
    if (code !== undefined) made = node("code", code);
    else if (strong !== undefined) made = node("strong", ...inline(strong, depth + 1));
    else if (em !== undefined) made = node("em", ...inline(em, depth + 1));
    else if (gone !== undefined) made = node("s", ...inline(gone, depth + 1));
    else if (target !== undefined) made = link(target, inline(label, depth + 1));
    else made = link(bare, [bare]);
    if (!made) continue;
    found.push(text.slice(at, match.index), made);
    at = match.index + whole.length;
  }
  found.push(text.slice(at));
  return found.filter((one) => one !== "");
}

const cells = (line) => line.trim().replace(/^\||\|$/g, "").split("|").map((one) => one.trim());
const isRule = (line) => line.includes("-") && /^[\s|:-]+$/.test(line);
const indent = (line) => line.length - line.trimStart().length;

function table(lines, at) {
  const made = node("table"), head = node("tr"), body = node("tbody"), names = cells(lines[at]);
  for (const one of names) head.append(node("th", ...inline(one)));
  let next = at + 2;
  for (; next < lines.length && lines[next].includes("|"); next++) {
    const row = cells(lines[next]);
    body.append(node("tr", ...names.map((_, n) => node("td", ...inline(row[n] ?? "")))));
  }
  made.append(node("thead", head), body);
  const frame = node("div", made);
  frame.className = "scroll";
  frame.tabIndex = 0;
  return [frame, next];
}

function list(lines, at, depth) {
  const first = ITEM.exec(lines[at]), base = first[1].length, ordered = /\d/.test(first[2]);
  const made = node(ordered ? "ol" : "ul");
  if (ordered) made.start = parseInt(first[2], 10);
  let next = at;
  while (next < lines.length) {
    const item = ITEM.exec(lines[next]);
    if (!item || item[1].length < base || item[1].length > base + 1 || /\d/.test(item[2]) !== ordered) break;
    const inside = [item[3]];
    for (next++; next < lines.length; next++) {
      const line = lines[next];
      const blank = !line.trim(), follows = lines[next + 1] ?? "";
      if (blank ? !(follows.trim() && indent(follows) > base) : indent(line) <= base && (ITEM.test(line) || STARTS.test(line) || !inside.at(-1).trim())) break;
      inside.push(line.slice(Math.min(indent(line), base + 2)));
    }
    const entry = node("li"), parts = blocks(inside, depth + 1);
    for (const part of parts) if (part.tagName === "P" && parts.indexOf(part) === 0) entry.append(...part.childNodes); else entry.append(part);
    made.append(entry);
    while (next < lines.length && !lines[next].trim() && ITEM.test(lines[next + 1] ?? "")) next++;
  }
  return [made, next];
}

function blocks(lines, depth) {
  const found = [];
  let at = 0;
  while (at < lines.length) {
    const line = lines[at], start = line.trimStart();
    if (!start) { at++; continue; }
    const fence = /^(`{3,}|~{3,})/.exec(start);
    if (fence) {
      const inside = [];
      for (at++; at < lines.length && !lines[at].trimStart().startsWith(fence[1]); at++) inside.push(lines[at]);
      at++;
      const made = node("pre", node("code", inside.join("\n")));
      made.className = "code";
      made.tabIndex = 0;
      found.push(made);
    } else if (/^#{1,6}\s/.test(start)) {
      found.push(node("p", node("strong", ...inline(start.replace(/^#+\s+/, "").replace(/\s#+\s*$/, "")))));
      at++;
    } else if (/^([-*_])(\s*\1){2,}\s*$/.test(start)) {
      found.push(node("hr"));
      at++;
    } else if (start.startsWith(">") && depth < DEPTH_MAX) {
      const inside = [];
      for (; at < lines.length && lines[at].trimStart().startsWith(">"); at++) inside.push(lines[at].trimStart().replace(/^>\s?/, ""));
      found.push(node("blockquote", ...blocks(inside, depth + 1)));
    } else if (line.includes("|") && isRule(lines[at + 1] ?? "")) {
      const [made, next] = table(lines, at);
      found.push(made);
      at = next;
    } else if (ITEM.test(line) && depth < DEPTH_MAX) {
      const [made, next] = list(lines, at, depth);
      found.push(made);
      at = next;
    } else {
      const made = node("p");
      do {
        if (made.hasChildNodes()) made.append(node("br"));
        made.append(...inline(lines[at].trim()));
        at++;
      } while (at < lines.length && lines[at].trim() && !STARTS.test(lines[at]) && !(ITEM.test(lines[at]) && depth < DEPTH_MAX));
      found.push(made);
    }
  }
  return found;
}

/** Show a text in an element, in place of what is there. */
export function write(target, text) {
  target.replaceChildren(...blocks(text.replace(/\r\n?/g, "\n").split("\n"), 0));
}
