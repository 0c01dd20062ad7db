
'use strict';
(() => {
  const byId = id => document.getElementById(id);
  // What would reorder or hide text is shown as its code, as on a terminal. Text only ever becomes text.
  const hidden = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\u{e0000}-\u{e007f}]/gu;
  const clean = text => String(text).replace(hidden, one => `\\u{${one.codePointAt(0).toString(16)}}`);
  const add = (node, child) => {
    if (child === null || child === undefined || child === false || child === '') return;
    if (Array.isArray(child)) child.forEach(one => add(node, one));
    else node.append(child instanceof Node ? child : clean(child));
  };
  const el = (tag, attributes, ...children) => {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) if (value) node.setAttribute(name, clean(value));
    add(node, children);
    return node;
  };

  let status = null, offset = 0, heard = 0, opened = new Set(), drawn = {}, waiting = false, link = 'connecting';
  const now = () => Date.now() + offset;
  const tones = { OK: 'ok', WARNING: 'warning', CRITICAL: 'critical', UNKNOWN: 'unknown' };
  const tone = word => tones[word] || 'unknown';
  const verdicts = { clear: 'ok', gone: 'unknown', unknown: 'unknown', suspect: 'warning', fault: 'critical' };
  const words = text => String(text).replaceAll('_', ' ');
  const known = value => (value === null || value === undefined ? '?' : String(value));
  const plural = (count, one) => `${count} ${one}${count === 1 ? '' : 's'}`;

  const ago = ms => {
    const s = Math.max(0, Math.floor(ms / 1000));
    if (s < 60) return `${s} s`;
    if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
    if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor(s / 60) % 60} min`;
    return `${Math.floor(s / 86400)} d ${Math.floor(s / 3600) % 24} h`;
  };
  const age = (since, before, after) => {
    const at = Date.parse(since);
    if (Number.isNaN(at)) return clean(since);
    const node = el('time', { datetime: since, title: since, 'data-before': before, 'data-after': after });
    node.dataset.at = at;
    tick(node);
    return node;
  };
  const tick = node => {
    const text = `${node.dataset.before || ''}${ago(now() - Number(node.dataset.at))}${node.dataset.after || ''}`;
    if (node.textContent !== text) node.textContent = text;
  };
  const pill = (word, kind) => el('span', { class: `pill ${kind}` }, word);

  const copy = async (button, text) => {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // Without the right to the clipboard the command is selected, to be copied by hand.
      const range = document.createRange();
      range.selectNodeContents(button.previousSibling);
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      button.textContent = 'Selected';
      return;
    }
    button.textContent = 'Copied';
    setTimeout(() => { button.textContent = 'Copy'; }, 1500);
  };
  const command = (text, key) => {
    const button = el('button', { type: 'button', 'aria-label': `Copy: ${text}`, 'data-key': `copy ${key}` }, 'Copy');
    button.addEventListener('click', () => copy(button, text));
    return el('div', { class: 'command' }, el('code', {}, text), button);
  };
  const details = (key, title, ...children) => {
    const node = el('details', {}, el('summary', { 'data-key': `open ${key}` }, title), ...children);
    node.open = opened.has(key);
    node.addEventListener('toggle', () => { node.open ? opened.add(key) : opened.delete(key); });
    return node;
  };

  const said = (opinions, more, routes) => {
    const lines = [];
    const one = ([name, word]) => [el('b', { class: 'name' }, name), `: ${words(word)}`];
    const list = entries => entries.map((entry, at) => [at ? ', ' : '', one(entry)]);
    if (Object.keys(opinions).length) {
      lines.push(el('div', {}, 'Lists: ', list(Object.entries(opinions)), more ? ` and ${more} more` : ''));
    }
    if (Object.keys(routes).length) lines.push(el('div', {}, 'Route to it: ', list(Object.entries(routes))));
    return lines;
  };

  const head = () => {
    const lost = stale();
    const word = lost ? 'STALE' : status ? status.status : 'WAITING';
    document.title = status ? `${word} · metawatch` : 'metawatch';
    document.body.classList.toggle('stale', lost && Boolean(status));
    byId('head').className = `is-${lost ? 'unknown' : tone(word)}`;
    const facts = status ? [
      `epoch ${status.epoch.number}, `, age(status.timestamp, '', ' ago'),
      status.system ? ` · system ${status.system}` : '', ` · ${plural(status.counts.servers, 'server')}`,
    ] : 'No epoch has ended yet: metawatch waits for its first connection, or another watcher looks in its place.';
    const banner = link === 'lost' ? 'metawatch cannot be reached: this is what it said last.'
      : lost && status ? 'metawatch has not said anything new: this is the past.' : '';
    return [
      el('span', { class: `word ${lost ? 'unknown' : tone(word)}` }, word),
      el('div', {}, el('h1', {}, status ? status.summary : 'Waiting for the first epoch'),
        el('div', { class: 'soft small' }, facts), banner && el('div', { class: 'banner' }, banner)),
    ];
  };

  const incident = (one, index) => {
    const bad = one.state === 'firing' && one.severity === 'critical';
    const because = (one.cause && one.cause.because) || [];
    const says = one.diagnosis.map(d => el('li', {}, el('b', { class: 'name' }, d.server), `: ${d.says} (${d.asked})`));
    const evidence = one.evidence || {};
    const witnesses = (evidence.witnesses || []).map(words).join(', ');
    const why = [
      because.length > 0 && [el('h4', {}, 'Because'), el('ul', {}, because.map(text => el('li', {}, text)))],
      says.length > 0 && [el('h4', {}, 'The servers say'), el('ul', {}, says)],
      (witnesses || one.evidence) && [el('h4', {}, 'Evidence'), el('div', { class: 'said' },
        witnesses && el('div', {}, 'Witnesses: ', witnesses),
        said(evidence.reporters || {}, 0, evidence.routes || {}))],
    ];
    const next = one.advice.map((advice, step) => el('li', {}, advice.do,
      advice.command && command(advice.command, `${one.incident} ${step}`)));
    const body = el('div', { class: 'lists' }, el('div', {}, why),
      next.length > 0 && el('div', {}, el('h4', {}, 'Next'), el('ol', {}, next)));
    return el('article', { class: `card incident ${bad ? 'bad' : ''}` },
      el('div', { class: 'top' },
        pill(`${bad ? 'CRITICAL' : 'WARNING'} ${one.state}`, bad ? 'critical' : 'warning'),
        el('h3', {}, one.summary), age(one.since, 'for ')),
      el('div', { class: 'soft small' }, `${one.check} ${one.title} · group ${one.group}`,
        one.flaps ? ` · came back ${plural(one.flaps, 'time')}` : '',
        one.basis ? ` · ${one.basis}` : '', ` · incident ${one.incident}`),
      index < 3 ? body : details(`incident ${one.incident}`, 'Why, and what next', body));
  };
  const incidents = () => {
    const { incidents, counts } = status;
    if (!incidents.length) return [];
    const more = counts.incidents - incidents.length;
    return [el('h2', {}, plural(counts.incidents, 'open incident')), incidents.map(incident),
      more > 0 && el('p', { class: 'soft' }, `and ${more} more`)];
  };

  const peer = (group, one) => {
    const kind = verdicts[one.verdict] || 'unknown';
    const lines = said(one.opinions, one.more_opinions, one.routes);
    const against = [one.witnesses.map(words).join(', '), one.says].filter(Boolean).join('; ');
    const name = one.name === null ? `peer ${one.id}` : one.name;
    return el('tr', {},
      el('td', {}, el('b', { class: `name ${kind === 'ok' ? '' : `fg-${kind}`}` }, name)),
      el('td', { 'data-label': 'Cluster' }, el('span', { class: 'name' }, one.cluster || '–')),
      el('td', {}, one.state),
      el('td', { class: 'num', 'data-label': 'Contact' }, one.contact),
      el('td', { class: 'num', 'data-label': 'Lag' }, one.lag === null ? '–' : one.lag),
      el('td', { class: 'verdict' }, pill(one.verdict, kind), one.cause && el('span', { class: 'cause' }, words(one.cause))),
      el('td', { class: 'wide' }, against && el('div', { class: 'said' }, against),
        lines.length > 0 && details(`peer ${group.group} ${one.id}`, 'who says what', el('div', { class: 'said' }, lines))));
  };
  const group = one => {
    const left = one.failures_left;
    const number = (term, value, of, bad) => el('div', {}, el('dt', {}, term),
      el('dd', { class: bad ? 'bad' : '' }, value, of && el('span', { class: 'of' }, of)));
    const dots = one.peers.slice(0, 24).map(peer => el('i', {
      class: `fg-${verdicts[peer.verdict] || 'unknown'} ${peer.verdict === 'clear' ? '' : 'hollow'}`,
      title: `${peer.name === null ? peer.id : peer.name}: ${peer.verdict}`,
    }));
    const where = [one.clusters.length ? `${one.clusters.length === 1 ? 'cluster' : 'clusters'} ${one.clusters.join(', ')}` : '',
      one.domain ? `domain ${one.domain}` : '', one.rescue ? 'quorum lowered by an operator (rescue)' : '',
      one.leader && !one.complete ? "the leader's list is not complete" : ''].filter(Boolean).join(' · ');
    const heads = ['Peer', 'Cluster', 'State', 'Contact', 'Lag', 'Verdict', 'Who says what'];
    const none = (left === null || left === undefined) ? 'not known' : left < 0 ? 'quorum lost' : String(left);
    return el('article', { class: 'card' },
      el('div', { class: 'top' }, pill(one.status, tone(one.status)),
        el('h3', {}, 'Meta group ', el('span', { class: 'name' }, one.group)), el('div', { class: 'dots', 'aria-hidden': 'true' }, dots)),
      el('div', { class: 'soft small' }, where),
      el('dl', { class: 'numbers' },
        el('div', {}, el('dt', {}, 'Leader'), el('dd', { class: one.leader ? 'name' : 'bad' }, one.leader || 'none')),
        number('Online', known(one.online), ` of ${known(one.size)}`),
        number('Must agree', known(one.quorum)),
        number('Failures left', none, '', left !== null && (left < 0 || (left === 0 && one.size > 2))),
        number('Answering', one.answering)),
      one.leaderless && el('p', { class: 'soft small' }, one.leaderless),
      el('table', {}, el('thead', {}, el('tr', {}, heads.map(text =>
        el('th', { scope: 'col', class: text === 'Contact' || text === 'Lag' ? 'num' : '' }, text)))),
      el('tbody', {}, one.peers.map(row => peer(one, row)))),
      one.more_peers > 0 && el('p', { class: 'soft small' }, `and ${one.more_peers} more peers`));
  };
  const groups = () => {
    const { counts } = status;
    const more = counts.groups - status.groups.length;
    const title = counts.groups === 1 ? 'Meta group' : `${counts.groups} meta groups, ${counts.groups_not_ok} not known to be well`;
    return [el('h2', {}, title), status.groups.map(group),
      counts.groups === 0 && el('p', { class: 'card' }, 'No meta group is seen: no server tells of one.'),
      more > 0 && el('p', { class: 'soft' }, `and ${more} more; the worst are shown`)];
  };

  const recent = () => {
    if (!status.recent.length) return [];
    const line = one => {
      const over = one.state === 'resolved';
      const lost = one.reason === 'forgotten' || one.reason === 'displaced';
      const word = over ? (lost ? 'UNKNOWN' : 'OK') : one.state === 'firing' && one.severity === 'critical' ? 'CRITICAL' : 'WARNING';
      const at = new Date(Date.parse(one.at));
      const time = Number.isNaN(at.getTime()) ? one.at : at.toLocaleTimeString([], { hourCycle: 'h23' });
      return el('li', {}, el('time', { class: 'soft small', title: one.at, datetime: one.at }, time),
        el('span', {}, pill(word, tone(word))), el('span', { class: 'what' }, one.summary));
    };
    return [el('h2', {}, 'Last events'), el('div', { class: 'card' }, el('ol', { class: 'events' }, status.recent.map(line)))];
  };
  const notes = () => {
    const missing = status.epoch.missing;
    const all = [missing.length ? `no answer: ${missing.join(', ')}` : '', ...status.notes].filter(Boolean);
    return all.length ? [el('h2', {}, 'Notes'), el('div', { class: 'card' }, el('ul', { class: 'notes' }, all.map(text => el('li', {}, text))))] : [];
  };
  const watcher = () => {
    const one = status.watcher;
    const fact = (term, value, bad) => el('div', {}, el('dt', {}, term), el('dd', { class: bad ? 'bad' : '' }, value));
    const p = one.publishing;
    const roles = { active: 'active: it publishes', standby: 'standby: another one publishes', reserve: 'reserve: others publish and look', joining: 'joining', taking_over: 'taking over' };
    return [el('h2', {}, 'The watcher'), el('div', { class: 'card' }, el('dl', { class: 'facts' },
      fact('Name', one.name),
      p && fact('Role', roles[p.role] || p.role), p && fact('Watchers', p.watchers),
      fact('Running for', age(one.since)), fact('Epochs', one.epochs), one.blind_epochs > 0 && fact('Blind epochs', one.blind_epochs, true),
      fact('Last epoch', `${status.epoch.heard} of ${status.epoch.expected} in ${status.epoch.elapsed_ms} ms`),
      fact('Ended', words(status.epoch.ended)),
      fact('Replies', one.replies), fact('Late', one.late), fact('Rejected', one.rejected, one.rejected > 0),
      fact('Duplicate', one.duplicate), one.conflicting > 0 && fact('Conflicting', one.conflicting, true),
      one.dropped > 0 && fact('Dropped', one.dropped, true),
      p && [fact('Events sent', p.sent), fact('Waiting', p.waiting), fact('Lost', p.lost, p.lost > 0),
        Object.entries(p.losses).map(([kind, count]) => fact(`Lost: ${words(kind)}`, count, true)),
        p.unsaved && fact('State file', 'cannot be written', true), !p.connected && fact('Connection for alerts', 'lost', true),
        fact('Subjects', `${p.prefix}.>`)]))];
  };

  // Draws what has changed, and leaves the focus where it was.
  const draw = () => {
    waiting = false;
    const focused = document.activeElement && document.activeElement.dataset.key;
    byId('head').replaceChildren(...[].concat(head()).filter(Boolean));
    if (status) {
      const parts = {
        incidents: [incidents, [status.incidents, status.counts]], groups: [groups, [status.groups, status.counts]],
        recent: [recent, status.recent], notes: [notes, [status.notes, status.epoch.missing]], watcher: [watcher, [status.watcher, status.epoch]],
      };
      for (const [id, [make, of]] of Object.entries(parts)) {
        const text = JSON.stringify(of);
        if (drawn[id] === text) continue;
        drawn[id] = text;
        const node = document.createDocumentFragment();
        add(node, make());
        byId(id).replaceChildren(node);
      }
    }
    if (focused) for (const node of document.querySelectorAll('[data-key]')) if (node.dataset.key === focused) { node.focus({ preventScroll: true }); break; }
  };
  const soon = () => {
    if (waiting || document.hidden) return;
    waiting = true;
    requestAnimationFrame(draw);
  };
  const stale = () => link === 'lost' || (status !== null && performance.now() - heard > Math.max(10000, 4 * status.interval_ms));
  let wasStale = false;
  setInterval(() => {
    if (document.hidden) return;
    if (stale() !== wasStale) { wasStale = !wasStale; soon(); }
    document.querySelectorAll('time[data-at]').forEach(tick);
  }, 1000);
  document.addEventListener('visibilitychange', soon);

  const take = text => {
    let next;
    try { next = JSON.parse(text); } catch { return; }
    heard = performance.now();
    if (next === null) return soon();
    status = next;
    const keys = new Set(status.groups.flatMap(one => one.peers.map(peer => `peer ${one.group} ${peer.id}`)).concat(status.incidents.map(one => `incident ${one.incident}`)));
    opened = new Set([...opened].filter(key => keys.has(key)));
    const at = Date.parse(status.timestamp);
    if (!Number.isNaN(at)) offset = at - Date.now();
    soon();
  };
  let source = null;
  const connect = () => {
    source = new EventSource('events');
    source.addEventListener('status', event => { link = 'up'; take(event.data); });
    source.addEventListener('error', () => {
      link = 'lost';
      soon();
      // A refusal ends the source for good; after a lost connection it comes back by itself.
      if (source.readyState === EventSource.CLOSED) setTimeout(connect, 5000);
    });
  };
  take(byId('status').textContent);
  draw();
  connect();
})();
