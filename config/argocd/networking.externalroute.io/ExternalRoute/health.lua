-- The status is kstatus-shaped: Ready is always there, and Stalled is True only while a person must act.
local hs = { status = "Progressing", message = "The operator has not reconciled this route yet." }
local status = obj.status or {}

-- A status of an older spec says nothing about this one.
local observed, generation = status.observedGeneration, obj.metadata.generation
if observed ~= nil and generation ~= nil and observed ~= generation then
  hs.message = "The operator has not reconciled the latest change yet."
  return hs
end

local conditions = {}
for _, condition in ipairs(status.conditions or {}) do
  conditions[condition.type] = condition
end
local ready, stalled = conditions.Ready, conditions.Stalled
if ready == nil then
  return hs
end

hs.message = ready.message
if stalled ~= nil and stalled.status == "True" then
  hs.status = "Degraded"
elseif ready.reason == "Suspended" then
  hs.status = "Suspended"
elseif ready.status == "True" then
  hs.status = "Healthy"
end
return hs
