setInterval(async () => {
  const silent = document.getElementById("silent");
  if (document.hidden || !getSelection().isCollapsed) return;
  try {
    const answer = await fetch(location.href, { signal: AbortSignal.timeout(4000) });
    if (!answer.ok) throw answer.status;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("main");
    const shown = document.querySelector("main");
    const scrolled = [...shown.querySelectorAll(".scroll")].map((box) => box.scrollLeft);
    if (shown.innerHTML !== fresh.innerHTML) shown.replaceWith(fresh);
    fresh.querySelectorAll(".scroll").forEach((box, n) => (box.scrollLeft = scrolled[n] || 0));
    silent.hidden = true;
  } catch {
    silent.hidden = false;
  }
}, 2000);
