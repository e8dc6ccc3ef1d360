-- Holds new requests while `ops` stops Gitea on purpose. `ops` sets the state with the command "hold" on the control socket;
-- a state ends by itself, because the process that set it may die.

-- How long one request waits; then it goes on to Gitea, or, when Gitea is away, gets the page.
local WAIT_SECONDS = tonumber(os.getenv("HOLD_SECONDS"))
-- How many wait at once, and how many of them with a body that nginx has read in part, up to 512 KiB.
local MOST, MOST_LARGE = 1000, 200
-- How long ssh clients get the notice when nobody ends the state.
local AWAY_SECONDS = 900
local PACE_MILLISECONDS = 100
-- An entry that was not renewed for so long belongs to a client that has gone. HAProxy does not notice each of them; then
-- the entry stays until its time is over.
local STALE_SECONDS = 2

-- held: "none", "transfers" or "all".
local state = { held = "none", ends = 0, away_ends = 0, sentence = "" }
-- The waiting requests.
local entries = {}
local waiting, waiting_large, longest, served, refused = 0, 0, 0, 0, 0

local function now()
  local time = core.now()
  return time.sec + time.usec / 1000000
end

local function holds(kind)
  return now() < state.ends and (state.held == "all" or (state.held == "transfers" and kind == "transfer"))
end

local function add(large)
  local entry = { from = now(), seen = now(), large = large }
  entries[entry] = true
  waiting = waiting + 1
  waiting_large = waiting_large + (large and 1 or 0)
  return entry
end

local function remove(entry)
  if entries[entry] then
    entries[entry] = nil
    waiting = waiting - 1
    waiting_large = waiting_large - (entry.large and 1 or 0)
  end
end

-- Lets a request wait. It is refused when too many wait already, or when its client goes away: then HAProxy ends this function
-- where it waits, and the variable keeps its first value.
local function wait(txn, kind)
  if not holds(kind) then
    return
  end
  local large = txn:get_var("txn.large") == true
  txn:set_var("txn.refused", true)
  if waiting >= MOST or (large and waiting_large >= MOST_LARGE) then
    refused = refused + 1
    return
  end
  local entry = add(large)
  while holds(kind) and now() - entry.from < WAIT_SECONDS do
    entry.seen = now()
    core.msleep(PACE_MILLISECONDS)
  end
  remove(entry)
  longest = math.max(longest, now() - entry.from)
  served = served + 1
  txn:set_var("txn.refused", false)
end

core.register_task(function()
  while true do
    core.msleep(1000)
    for entry in pairs(entries) do
      if now() - entry.seen > STALE_SECONDS then
        remove(entry)
      end
    end
  end
end)

core.register_action("hold", { "http-req" }, wait, 1)

local function answers(name)
  local address = core.backends[name].servers.gitea:get_addr()
  local ip, port = address:match("^([%d.]+):(%d+)$")
  if not ip then
    return false
  end
  local connection = core.tcp()
  connection:settimeout(1)
  local connected = connection:connect(ip, tonumber(port))
  connection:close()
  return connected ~= nil
end

core.register_action("hold_ssh", { "tcp-req" }, function(txn)
  wait(txn, "transfer")
  if state.held ~= "none" and now() < state.away_ends and not answers("ssh") then
    txn:set_var("txn.away", true)
  end
end)

-- The bytes of an SSH server that refuses every client (RFC 4253, 11.1): its version, then a disconnect with the sentence.
core.register_service("notice", "tcp", function(applet)
  local payload = string.char(1) .. string.pack(">I4I4", 7, #state.sentence) .. state.sentence .. string.pack(">I4", 0)
  -- RFC 4253, 6: at least four bytes of padding, in all a multiple of eight.
  local padding = 4 + -(4 + 1 + #payload + 4) % 8
  local packet = string.pack(">I4B", 1 + #payload + padding, padding) .. payload .. string.rep("\0", padding)
  applet:send("SSH-2.0-away\r\n" .. packet)
  -- Closing with unread data would reset the connection, and the client would lose the sentence.
  local until_then = now() + 3
  while now() < until_then do
    local data = applet:receive(1)
    if data == nil or data == "" then
      break
    end
  end
end)

-- hold transfers|all SECONDS SENTENCE, hold none, hold status
core.register_cli({ "hold" }, "hold : hold new requests to Gitea", function(applet, _, held, seconds, ...)
  if held == "transfers" or held == "all" then
    if state.held == "none" then
      longest, served, refused = 0, 0, 0
    end
    state = {
      held = held,
      ends = now() + tonumber(seconds),
      away_ends = now() + AWAY_SECONDS,
      sentence = table.concat({ ... }, " "),
    }
  elseif held == "none" then
    state = { held = "none", ends = 0, away_ends = 0, sentence = "" }
  end
  local shown, oldest = now() < state.ends and state.held or "none", longest
  for entry in pairs(entries) do
    oldest = math.max(oldest, now() - entry.from)
  end
  applet:send(
    string.format(
      '{"held": "%s", "waiting": %d, "served": %d, "refused": %d, "longest": %.2f}\n',
      shown, waiting, served, refused, oldest
    )
  )
end)
