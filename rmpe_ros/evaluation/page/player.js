// The player: one screen for each recording, one clock for all of them and for the lanes.
'use strict';

(() => {
  const data = JSON.parse(document.getElementById('data').textContent);
  const byId = (id) => document.getElementById(id);
  const runs = data.runs;
  const [first, last] = data.span;
  const KEPT = 40; // decoded pictures of a run

  class Screen {
    constructor(run, parent) {
      this.run = run;
      this.element = document.createElement('div');
      this.element.className = 'screen';
      this.canvas = document.createElement('canvas');
      const scale = Math.min(1.5, Math.max(1, 640 / run.width));
      this.canvas.width = Math.round(run.width * scale);
      this.canvas.height = Math.round(run.height * scale);
      this.caption = document.createElement('p');
      this.element.append(this.canvas, this.caption);
      parent.append(this.element);
      this.pictures = new Map();
      this.wanted = -1;
    }

    // The last frame that is not after `time`.
    indexAt(time) {
      const frames = this.run.frames;
      let low = 0;
      let high = frames.length - 1;
      while (low < high) {
        const middle = (low + high + 1) >> 1;
        if (frames[middle].time <= time + 1e-6) low = middle;
        else high = middle - 1;
      }
      return low;
    }

    async picture(index) {
      const number = this.run.frames[index].picture;
      if (number === null) return null;
      if (!this.pictures.has(number)) {
        const image = new Image();
        image.src = `data:image/jpeg;base64,${this.run.pictures[number]}`;
        this.pictures.set(number, image.decode().then(() => image));
        if (this.pictures.size > KEPT) this.pictures.delete(this.pictures.keys().next().value);
      }
      return this.pictures.get(number);
    }

    async show(time) {
      const index = this.indexAt(time);
      if (index === this.wanted) return;
      this.wanted = index;
      const image = await this.picture(index);
      if (index !== this.wanted) return; // meanwhile another one is wanted
      const frame = this.run.frames[index];
      const context = this.canvas.getContext('2d');
      context.fillStyle = '#222';
      context.fillRect(0, 0, this.canvas.width, this.canvas.height);
      if (image) context.drawImage(image, 0, 0, this.canvas.width, this.canvas.height);
      const people = (frame.people || []).map((each) => ({
        id: each[0], score: each[1], box: each[2], joints: each[3],
      }));
      drawPeople(context, people, this.run.look, this.canvas.width / this.run.width, data.min_score);
      this.caption.textContent = `${this.run.name}: ${frame.note}`;
      this.element.dataset.frame = String(frame.number);
      this.element.dataset.people = String(people.length);
      this.element.classList.toggle('differs', Boolean(frame.differs));
      this.picture(Math.min(index + 1, this.run.frames.length - 1));
    }
  }

  const screens = runs.map((run) => new Screen(run, byId('screens')));
  const lanes = data.lanes.map((lane) => new Lane(byId('lanes'), lane, data.span, seek));
  const scrubber = byId('scrubber');
  const button = byId('play');
  let time = first;
  let playing = false;
  let before = 0;

  function show() {
    screens.forEach((screen) => screen.show(time));
    lanes.forEach((lane) => lane.show(time));
    scrubber.value = String(time);
    byId('clock').textContent = `${(time - first).toFixed(2)} s of ${(last - first).toFixed(2)} s`;
    document.body.dataset.time = time.toFixed(3);
  }

  function seek(to) {
    time = Math.min(last, Math.max(first, to));
    show();
  }

  function turn(now) {
    if (!playing) return;
    time += ((now - before) / 1000) * Number(byId('speed').value);
    before = now;
    if (time >= last) { time = last; play(false); }
    show();
    requestAnimationFrame(turn);
  }

  function play(on) {
    if (on && time >= last) time = first;
    playing = on;
    button.textContent = on ? 'Pause' : 'Play';
    before = performance.now();
    if (on) requestAnimationFrame(turn);
  }

  // To the next or the previous frame of any of the recordings.
  function step(direction) {
    const times = runs.flatMap((run) => run.frames.map((frame) => frame.time)).sort((a, b) => a - b);
    const next = direction > 0
      ? times.find((each) => each > time + 1e-6)
      : times.reverse().find((each) => each < time - 1e-6);
    play(false);
    if (next !== undefined) seek(next);
  }

  scrubber.min = String(first);
  scrubber.max = String(last);
  scrubber.addEventListener('input', () => seek(Number(scrubber.value)));
  button.addEventListener('click', () => play(!playing));
  byId('back').addEventListener('click', () => step(-1));
  byId('forward').addEventListener('click', () => step(1));
  document.addEventListener('click', (event) => {
    const moment = event.target.dataset && event.target.dataset.moment;
    if (moment !== undefined) { play(false); seek(Number(moment)); }
  });
  document.addEventListener('keydown', (event) => {
    if (event.target.tagName === 'SELECT') return;
    const keys = { ' ': () => play(!playing), ArrowLeft: () => step(-1), ArrowRight: () => step(1) };
    if (keys[event.key]) { event.preventDefault(); keys[event.key](); }
  });
  const resize = () => { lanes.forEach((lane) => lane.resize()); show(); };
  window.addEventListener('resize', resize);
  resize();
  // A link to a moment: report.html#t=12.5, seconds from the beginning.
  const at = /^#t=([\d.]+)$/.exec(location.hash);
  if (at) seek(first + Number(at[1]));
})();
