-- How Argo CD sees a FlowWorker: the value of `resource.customizations.health.flowworker.dev_FlowWorker` in the ConfigMap
-- argocd-cm. Flux and Helm need nothing, they judge by kstatus.
local status = obj.status or {}
if status.observedGeneration ~= obj.metadata.generation then
  return { status = "Progressing", message = "the operator has not looked at it yet" }
end

local conditions = {}
for _, condition in ipairs(status.conditions or {}) do
  conditions[condition.type] = condition
end

local ready, stalled = conditions.Ready or {}, conditions.Stalled or {}
if stalled.status == "True" then
  return { status = "Degraded", message = stalled.message }
elseif ready.reason == "Suspended" then
  return { status = "Suspended", message = ready.message }
elseif ready.status == "True" then
  return { status = "Healthy", message = ready.message }
end
return { status = "Progressing", message = ready.message or "" }
