-- Holds new requests while `ops` stops Gitea on purpose. `ops` sets the state with the command "hold" on the control socket;
-- a state ends by itself, because the process that set it may die.

-- How long one request waits; then it goes on to Gitea, or, when Gitea is away, gets the page.
local WAIT_SECONDS = tonumber(os.getenv("HOLD_SECONDS"))
-- How many wait at once; nginx has 512 connections for them in each of its processes, and two for each request.
local MOST = tonumber(os.getenv("HOLD_MOST"))
-- How long ssh clients get the notice when nobody ends the state.
local AWAY_SECONDS = 900
local PACE_MILLISECONDS = 50
-- An entry that was not renewed for so long belongs to a client that has gone.
local STALE_SECONDS = 2
local PER_ADDRESS = tonumber(os.getenv("SSH_LOGINS_PER_ADDRESS"))
local PENALTIES = os.getenv("SSH_PENALTIES") == "yes"
local PER_ADDRESS_AND_MINUTE = 60

-- held: "none", "transfers" or "all".
local state = { held = "none", ends = 0, away_ends = 0, sentence = "" }
-- When each waiting request last showed that it is still there.
local seen = {}
local waiting, longest, served, refused = 0, 0, 0, 0

local function now()
  local time = core.now()
  return time.sec + time.usec / 1000000
end

local function holds(kind)
  return now() < state.ends and (state.held == "all" or (state.held == "transfers" and kind == "transfer"))
end

-- Returns false when too many wait already.
local function wait(kind)
  if not holds(kind) then
    return true
  end
  if waiting >= MOST then
    refused = refused + 1
    return false
  end
  local entry, from = {}, now()
  waiting = waiting + 1
  while holds(kind) and now() - from < WAIT_SECONDS do
    seen[entry] = now()
    core.msleep(PACE_MILLISECONDS)
  end
  if seen[entry] then
    seen[entry] = nil
    waiting = waiting - 1
  end
  longest = math.max(longest, now() - from)
  served = served + 1
  return true
end

core.register_task(function()
  while true do
    core.msleep(1000)
    for entry, time in pairs(seen) do
      if now() - time > STALE_SECONDS then
        seen[entry] = nil
        waiting = waiting - 1
      end
    end
  end
end)

core.register_action("hold", { "http-req" }, function(txn, kind)
  if not wait(kind) then
    txn:set_var("txn.refused", true)
  end
end, 1)

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
  local address_refused = PER_ADDRESS and txn.f:sc0_conn_cur() > PER_ADDRESS
    or PENALTIES and txn.f:sc0_conn_rate() > PER_ADDRESS_AND_MINUTE
  if address_refused or not wait("transfer") then
    txn:set_var("txn.refused", true)
  elseif state.held ~= "none" and now() < state.away_ends and not answers("ssh") then
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
  local shown = now() < state.ends and state.held or "none"
  applet:send(
    string.format(
      '{"held": "%s", "waiting": %d, "served": %d, "refused": %d, "longest": %.2f}\n',
      shown, waiting, served, refused, longest
    )
  )
end)
