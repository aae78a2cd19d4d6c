// Draws people as rmpe_ros/core/drawing.py does: a dark rim, limbs by side, lighter dots, labels.
'use strict';

const mix = (a, b, share) => a.map((value, i) => Math.round(share * value + (1 - share) * b[i]));
const css = (color) => `rgb(${color.join(',')})`;

function drawPeople(context, people, look, scale, minScore) {
  // The surest person is drawn last and lies on top.
  for (let i = people.length - 1; i >= 0; i--) drawPerson(context, people[i], i, look, scale, minScore);
  drawLabels(context, people, look, scale, minScore);
}

function colorOf(person, index, look) {
  const number = person.id >= 0 ? person.id : index;
  return look.colors[number % look.colors.length];
}

function drawPerson(context, person, index, look, scale, minScore) {
  const color = colorOf(person, index, look);
  const joints = person.joints;
  const seen = joints.map((joint) => joint[2] >= minScore);
  const points = joints.map((joint) => [(joint[0] + 0.5) * scale, (joint[1] + 0.5) * scale]);
  const shown = points.filter((_, i) => seen[i]);
  if (!shown.length) return;
  const extent = (axis) => Math.max(...shown.map((p) => p[axis])) - Math.min(...shown.map((p) => p[axis]));
  const box = person.box;
  const size = Math.max((box[2] - box[0]) * scale, (box[3] - box[1]) * scale, extent(0), extent(1));
  const width = Math.min(12, Math.max(1.5, size / 70));
  const rim = Math.max(1, width * 0.25);
  const shade = (side) => css(mix(color, [0, 0, 0], look.strengths[side]));
  const limbs = look.edges.filter(([a, b]) => seen[a] && seen[b]);
  context.lineCap = 'round';
  for (const pass of ['rim', 'limb']) {
    for (const [a, b, side] of limbs) {
      context.strokeStyle = pass === 'rim' ? 'rgb(20,20,20)' : shade(side);
      context.lineWidth = pass === 'rim' ? width + 2 * rim : width;
      context.beginPath();
      context.moveTo(...points[a]);
      context.lineTo(...points[b]);
      context.stroke();
    }
  }
  points.forEach((point, i) => {
    if (!seen[i]) return;
    const light = mix(mix(color, [0, 0, 0], look.strengths[look.sides[i]]), [255, 255, 255], 0.55);
    for (const [style, radius] of [['rgb(20,20,20)', width * 0.7 + rim * 0.7], [css(light), width * 0.7]]) {
      context.fillStyle = style;
      context.beginPath();
      context.arc(point[0], point[1], radius, 0, 2 * Math.PI);
      context.fill();
    }
  });
}

// The number and the score, placed as rmpe_ros/core/label_places.py does.
function drawLabels(context, people, look, scale, minScore) {
  const height = Math.max(12, context.canvas.height / 32);
  context.font = `${Math.round(height * 0.8)}px sans-serif`;
  const faces = people.map((person) => faceOf(person, look, scale, minScore)).filter((face) => face);
  const taken = [];
  people.forEach((person, index) => {
    if (!person.joints.some((joint) => joint[2] >= minScore)) return;
    const text = (person.id >= 0 ? `${person.id}: ` : '') + person.score.toFixed(2);
    const width = context.measureText(text).width + 6;
    const [x, y] = placeLabel(width, height, person.box.map((v) => v * scale), faces, taken, context.canvas);
    taken.push([x, y, width, height]);
    context.fillStyle = css(colorOf(person, index, look));
    context.fillRect(x, y, width, height);
    context.fillStyle = '#000';
    context.fillText(text, x + 3, y + height * 0.78);
  });
}

function placeLabel(width, height, [x1, y1, x2, y2], faces, taken, canvas) {
  const candidates = [
    [x1, y1 - height], [x2 - width, y1 - height], [x1, y2], [x2 - width, y2],
    [x1 - width, y1], [x2, y1], [x1 - width, y2 - height], [x2, y2 - height],
    [x1, y2 - height], [x2 - width, y2 - height], [x1, y1], [x2 - width, y1],
  ];
  const box = [x1, y1, x2 - x1, y2 - y1];
  let best = [0, 0];
  let least = Infinity;
  for (const candidate of candidates) {
    const x = Math.min(Math.max(candidate[0], 0), Math.max(0, canvas.width - width));
    const y = Math.min(Math.max(candidate[1], 0), Math.max(0, canvas.height - height));
    const label = [x, y, width, height];
    let cost = 0.2 * overlap(label, box);
    for (const face of faces) cost += 4 * overlap(label, face);
    for (const other of taken) cost += 2 * overlap(label, other);
    if (cost < least - 1e-6) { best = [x, y]; least = cost; }
  }
  return best;
}

function faceOf(person, look, scale, minScore) {
  const points = look.face.map((i) => person.joints[i]).filter((joint) => joint[2] >= minScore);
  if (!points.length) return null;
  const xs = points.map((p) => p[0] * scale);
  const ys = points.map((p) => p[1] * scale);
  const [x, y] = [Math.min(...xs), Math.min(...ys)];
  const [wide, tall] = [Math.max(...xs) - x, Math.max(...ys) - y];
  const margin = Math.max(0.4 * Math.max(wide, tall), 4);
  return [x - margin, y - margin, wide + 2 * margin, tall + 2 * margin];
}

function overlap(a, b) {
  const wide = Math.min(a[0] + a[2], b[0] + b[2]) - Math.max(a[0], b[0]);
  const high = Math.min(a[1] + a[3], b[1] + b[3]) - Math.max(a[1], b[1]);
  return Math.max(wide, 0) * Math.max(high, 0);
}
