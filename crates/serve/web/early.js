// Runs before the first paint, so that a dark page never flashes white.
(() => {
  let wanted = null;
  try {
    wanted = localStorage.getItem('fathom.theme');
  } catch {
    // Without storage the system decides.
  }
  const dark = wanted === 'dark' || (wanted !== 'light' && matchMedia('(prefers-color-scheme: dark)').matches);
  document.documentElement.dataset.theme = dark ? 'dark' : 'light';
})();
