'use strict';
// Tells what was at the moment under the pointer. The page is whole without it.
(() => {
  const run = JSON.parse(document.getElementById('run').textContent);
  const plots = [...document.querySelectorAll('.plot')];
  const element = (name, kind) => Object.assign(document.createElement(name), { className: kind, hidden: true });
  const note = document.body.appendChild(element('div', 'note'));
  const hairs = plots.map((plot) => plot.appendChild(element('i', 'hair')));

  // One note instead of two: what a mark tells becomes the note's first line.
  for (const title of document.querySelectorAll('.plot title')) {
    const mark = title.parentNode;
    mark.dataset.tip = title.textContent;
    mark.setAttribute('aria-label', title.textContent);
    title.remove();
  }

  const number = (value) => value.toLocaleString('en', { maximumSignificantDigits: 3 });
  const millis = (value) => (value < 1000 ? `${number(value)} ms` : `${number(value / 1000)} s`);
  const place = (node) => (node ? ` at ${node}` : '');

  function told(at) {
    const lines = [];
    const [acknowledged, latency] = run.columns[Math.floor(at / run.width)] ?? [0, null];
    const leaders = run.reigns.filter(([from, to]) => from <= at && at <= to);
    const names = leaders.map(([, , node, term]) => `${node} leads in term ${term}`);
    lines.push(names.join(', ') || 'nobody is known to lead');
    for (const [from, to, what, node] of run.faults) {
      if (from <= at && at <= to) lines.push(`fault: ${what}${place(node)}`);
    }
    lines.push(`${number(acknowledged / run.width)} acknowledged per second`);
    if (latency) lines.push(`p50 ${millis(latency[0])}, p99 ${millis(latency[1])}, worst ${millis(latency[2])}`);
    return lines;
  }

  function line(kind, text) {
    const line = document.createElement(kind);
    line.textContent = text;
    return line;
  }

  function show(event, plot) {
    const box = plot.getBoundingClientRect();
    const share = Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1);
    const at = share * run.to;
    for (const hair of hairs) {
      hair.hidden = false;
      hair.style.left = `${share * 100}%`;
    }
    const tip = event.target.dataset?.tip;
    const lines = told(at).map((text) => line('div', text));
    note.replaceChildren(line('b', `${at.toFixed(1)} s`), ...(tip ? [line('b', tip)] : []), ...lines);
    note.hidden = false;
    const room = document.documentElement.clientWidth - note.offsetWidth - 8;
    note.style.left = `${Math.max(8, Math.min(event.clientX + 14, room))}px`;
    const below = event.clientY + 18;
    const fits = below + note.offsetHeight < document.documentElement.clientHeight;
    note.style.top = `${fits ? below : event.clientY - note.offsetHeight - 12}px`;
  }

  function hide() {
    note.hidden = true;
    for (const hair of hairs) hair.hidden = true;
  }

  for (const plot of plots) {
    plot.addEventListener('pointermove', (event) => show(event, plot));
    plot.addEventListener('pointerleave', hide);
  }
})();
