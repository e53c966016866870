package v1alpha1

// The types of an ExternalRoute's conditions.
const (
	// ConditionAccepted says whether the spec is valid, allowed and free of conflicts.
	ConditionAccepted = "Accepted"
	// ConditionProgrammed says whether the generated objects stand in the cluster as wanted (the word is Gateway API's).
	ConditionProgrammed = "Programmed"
	// ConditionReady sums up Accepted and Programmed for tools that know nothing else (the word is kstatus's). Its reason is that of the first of
	// the two that is not True.
	ConditionReady = "Ready"
	// ConditionStalled is True when a person must act, and absent otherwise (kstatus reads it as Failed).
	ConditionStalled = "Stalled"
	// ConditionDirectHTTPS is False where `tls.scope: Host` breaks workloads that call the host over https themselves, and absent otherwise.
	ConditionDirectHTTPS = "DirectHTTPS"
)

// Reasons of the Accepted condition. ReasonPending also belongs to Programmed.
const (
	// ReasonAccepted means that the spec is valid, allowed and free of conflicts. Nothing is to be done.
	ReasonAccepted = "Accepted"
	// ReasonPending means that the operator has not looked at the object yet, or waits for something that comes by itself. If it stays, look
	// whether the operator runs.
	ReasonPending = "Pending"
	// ReasonInvalid means that the spec contradicts itself or its surroundings. The message names the field: correct it.
	ReasonInvalid = "Invalid"
	// ReasonHostConflict means that another route or VirtualService serves one of the hosts. The message names it: change one of the two.
	ReasonHostConflict = "HostConflict"
	// ReasonDestinationConflict means that another object of the namespace decides about a destination's host. The message names it.
	ReasonDestinationConflict = "DestinationConflict"
	// ReasonNameConflict means that an object with the name of a generated one exists and belongs to somebody else. Rename or remove it, or hand
	// it over with the annotation networking.externalroute.io/adopt.
	ReasonNameConflict = "NameConflict"
	// ReasonNotAllowedByPolicy means that no ExternalRoutePolicy lets this namespace reach the destination. Ask the platform team.
	ReasonNotAllowedByPolicy = "NotAllowedByPolicy"
	// ReasonServiceNotUsable means that the Service behind an alias cannot carry HTTP for the mesh. Change the Service or the alias.
	ReasonServiceNotUsable = "ServiceNotUsable"
	// ReasonServiceMissing means that an alias has no Service and that serviceCreationPolicy is Never. Create it; the route goes on by itself.
	ReasonServiceMissing = "ServiceMissing"
	// ReasonCAConfigMapMissing means that the ConfigMap named in caConfigMap does not exist. Create it; the route goes on by itself.
	ReasonCAConfigMapMissing = "CAConfigMapMissing"
)

// Reasons of the Programmed condition.
const (
	// ReasonProgrammed means that every generated object stands in the cluster as wanted. Nothing is to be done.
	ReasonProgrammed = "Programmed"
	// ReasonIstioNotInstalled means that the cluster has no Istio CRDs. Install Istio; the route goes on by itself.
	ReasonIstioNotInstalled = "IstioNotInstalled"
	// ReasonApplyFailed means that the API server refused an object or could not be reached. The message holds its answer; the operator tries again.
	ReasonApplyFailed = "ApplyFailed"
	// ReasonSuspended means that spec.suspend is set: nothing is written until it is taken away.
	ReasonSuspended = "Suspended"
	// ReasonSwitching means that new upstreams stand beside the old ones and traffic moves over after the settle time. Nothing is to be done.
	ReasonSwitching = "Switching"
	// ReasonNotAccepted means that the spec was not accepted, and so not programmed. Accepted says why; what was good before still serves.
	ReasonNotAccepted = "NotAccepted"
)

// ReasonHostScopedTLS is the reason of DirectHTTPS: a destination with `tls.scope: Host` makes the whole namespace speak TLS to the host, so that a
// workload that calls https itself gets TLS in TLS. Use `scope: Route`, or see that nobody does.
const ReasonHostScopedTLS = "HostScopedTLS"

// The labels and annotations that generated objects and their neighbours carry.
const (
	// ManagedByLabel marks every generated object, with the value ManagedByValue.
	ManagedByLabel = "app.kubernetes.io/managed-by"
	// ManagedByValue is the value of ManagedByLabel.
	ManagedByValue = "externalroute"
	// AdoptAnnotation on an object that has the name of a generated one hands it over to the ExternalRoute that it names.
	AdoptAnnotation = GroupName + "/adopt"
)
