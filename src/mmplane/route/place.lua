-- Where a request goes. Media goes by a key, so that the same picture meets the replica that holds it; all else goes to
-- the replica with the fewest requests. `tests/shared/affinity.py` computes the same key.

local SOURCE_BYTES = 65536  -- of a picture's source: the first bytes of all JPEGs are alike

local names = {}            -- of the replicas, in no order
local turn = 0              -- so that equally loaded replicas take turns

core.register_init(function()
  for name in pairs(core.backends.replicas.servers) do names[#names + 1] = name end
end)

-- `mmplane replicas NAME...` on the control socket: HAProxy 2.6 does not tell Lua of servers that are added later.
core.register_cli({"mmplane", "replicas"}, "the names of all replicas", function(applet, _, _, ...)
  names = {...}
  applet:send(#names .. " replicas\n")
end)

-- Where the first string of this name begins. A quote inside a JSON string is escaped, so `"url"` is always a name.
local function value(body, name)
  local at = body:find('"' .. name .. '"', 1, true)
  while at do
    local _, quote = body:find('^"[^"]*"%s*:%s*"', at)
    if quote and body:byte(quote + 1) ~= 34 then return quote + 1 end
    at = body:find('"' .. name .. '"', at + 1, true)
  end
end

local function source(body)
  local first
  for _, name in ipairs({"url", "data", "image_embeds"}) do
    local from = value(body, name)
    if from and (not first or from < first) then first = from end
  end
  return first
end

-- What names the request's first item: the client's own name for it, or else how its source begins.
local function item(body)
  local uuid = value(body, "uuid")
  if uuid then return "uuid:" .. body:match('^[^"]*', uuid) end
  local from = source(body)
  if not from then return end
  local length = SOURCE_BYTES
  local quote = body:find('"', from, true)
  if quote then
    length = math.min(length, quote - from)
  else  -- a long prompt came first: how much is here varies a little, so take a length that does not
    while from + length - 1 > #body do length = length // 2 end
  end
  return "source:" .. body:sub(from, from + length - 1)
end

local function least_loaded(fetch)
  turn = turn + 1
  local found, least
  for index = 1, #names do
    local name = names[(turn + index) % #names + 1]
    if fetch:srv_is_up(name) == 1 then
      local load = fetch:srv_conn(name)
      if not least or load < least then found, least = name, load end
    end
  end
  return found
end

core.register_action("place", {"http-req"}, function(txn)
  local body = txn.f:req_body()
  local named = body and item(body)
  if named then
    local tenant = txn.c:sha2(txn.f:req_fhdr("authorization") or "", 256)
    txn:set_var("txn.media", txn.c:sha2(tenant .. named, 256))
  else
    txn:set_var("txn.replica", least_loaded(txn.f) or "")
  end
end)
