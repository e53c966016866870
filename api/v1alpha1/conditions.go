package v1alpha1

// The types of an ExternalRoute's conditions.
const (
	// ConditionAccepted reports whether the spec is valid, allowed and free of conflicts.
	ConditionAccepted = "Accepted"
	// ConditionProgrammed reports whether the generated objects in the cluster are in sync with the spec (the word is Gateway API's).
	ConditionProgrammed = "Programmed"
	// ConditionReady sums up Accepted and Programmed for tools that know nothing else (the word is kstatus's). Its reason is that of the first of
	// the two that is not True.
	ConditionReady = "Ready"
	// ConditionStalled is True when a person must act, and absent otherwise (kstatus reads it as Failed).
	ConditionStalled = "Stalled"
	// ConditionDirectHTTPS is False if `tls.scope: Host` breaks workloads that call the host over https themselves, and absent otherwise.
	ConditionDirectHTTPS = "DirectHTTPS"
	// ConditionMeshEnrolled says whether the labels of the route's namespace put its pods into the mesh. It never changes Ready, and is absent if the
	// operator does not watch namespaces.
	ConditionMeshEnrolled = "MeshEnrolled"
)

// Reasons of the Accepted condition. ReasonPending also belongs to Programmed.
const (
	// ReasonAccepted means that the spec is valid, allowed and free of conflicts. No action is needed.
	ReasonAccepted = "Accepted"
	// ReasonPending means that the operator has not reconciled the object yet, or waits for an event that needs no action. If it stays, check that the
	// operator runs.
	ReasonPending = "Pending"
	// ReasonInvalid means that the spec contradicts itself or its surroundings. The message names the field: correct it.
	ReasonInvalid = "Invalid"
	// ReasonHostConflict means that another route or VirtualService serves one of the hosts. The message names it: change one of the two.
	ReasonHostConflict = "HostConflict"
	// ReasonDestinationConflict means that another object of the namespace configures a destination's host. The message names it and the fix.
	ReasonDestinationConflict = "DestinationConflict"
	// ReasonNameConflict means that an object with the name of a generated one exists and belongs to another user or controller. Rename or delete it, or
	// hand it over with the annotation networking.externalroute.io/adopt.
	ReasonNameConflict = "NameConflict"
	// ReasonNotAllowedByPolicy means that no ExternalRoutePolicy lets this namespace reach the destination. Ask the platform team.
	ReasonNotAllowedByPolicy = "NotAllowedByPolicy"
	// ReasonServiceNotUsable means that the Service behind an alias cannot carry HTTP for the mesh. Change the Service or the alias.
	ReasonServiceNotUsable = "ServiceNotUsable"
	// ReasonServiceMissing means that an alias has no Service and that serviceCreationPolicy is Never. Create the Service. The
	// operator then programs the route.
	ReasonServiceMissing = "ServiceMissing"
	// ReasonCACertificateMissing means that an object named in tls.caCertificateRefs does not exist. Create it. The operator then programs the route.
	ReasonCACertificateMissing = "CACertificateMissing"
	// ReasonGatewayNotUsable means that the gateway that spec.egressGateway or spec.waypoint names does not exist, or cannot carry the route. The message says
	// what it lacks: correct the gateway or the field. The operator then programs the route.
	ReasonGatewayNotUsable = "GatewayNotUsable"
)

// Reasons of the Programmed condition.
const (
	// ReasonProgrammed means that all generated objects are in sync. No action is needed.
	ReasonProgrammed = "Programmed"
	// ReasonIstioNotInstalled means that the cluster has no Istio CRDs. Install Istio. The operator then programs the route.
	ReasonIstioNotInstalled = "IstioNotInstalled"
	// ReasonApplyFailed means that the API server rejected an object or could not be reached. The message holds its answer. The operator retries.
	ReasonApplyFailed = "ApplyFailed"
	// ReasonSuspended means that spec.suspend is true: the operator writes no generated objects. Set it to false to resume.
	ReasonSuspended = "Suspended"
	// ReasonSwitching means that the new upstreams exist beside the old ones, and traffic moves to them after the settle time. No action is needed.
	ReasonSwitching = "Switching"
	// ReasonNotAccepted means that the spec is not accepted, and so not programmed. The condition Accepted has the reason. Objects of the last accepted
	// spec keep serving.
	ReasonNotAccepted = "NotAccepted"
)

// ReasonValid is the reason of an ExternalRoutePolicy's Ready condition: the policy is valid and applies. No action is needed.
const ReasonValid = "Valid"

// ReasonHostScopedTLS is the reason of DirectHTTPS: a destination with `tls.scope: Host` makes the whole namespace speak TLS to the host, so that a
// workload that calls https itself gets TLS in TLS. Use `scope: Route`, or call http only.
const ReasonHostScopedTLS = "HostScopedTLS"

// Reasons of the MeshEnrolled condition.
const (
	// ReasonNamespaceEnrolled means that the namespace's labels inject sidecars into its pods, or put them into ambient mode and the route has a waypoint.
	// Nothing is to be done.
	ReasonNamespaceEnrolled = "NamespaceEnrolled"
	// ReasonNamespaceNotEnrolled means that the namespace's labels inject no sidecars, and do not put its pods into ambient mode for a route with a waypoint.
	// Its pods do not use the route: correct the label that the message names, and restart the pods.
	ReasonNamespaceNotEnrolled = "NamespaceNotEnrolled"
	// ReasonWaypointNeeded means that the namespace is in ambient mode, in which only a waypoint applies a route. Set spec.waypoint.
	ReasonWaypointNeeded = "WaypointNeeded"
)

// The labels and annotations that generated objects and their neighbours carry.
const (
	// ManagedByLabel marks every generated object, with the value ManagedByValue.
	ManagedByLabel = "app.kubernetes.io/managed-by"
	// ManagedByValue is the value of ManagedByLabel.
	ManagedByValue = "externalroute"
	// AdoptAnnotation hands an object over to the ExternalRoute that it names: one that has the name of a generated object, which the operator then owns, or
	// a ServiceEntry or DestinationRule for a host of the route, which the operator deletes when traffic has moved.
	AdoptAnnotation = GroupName + "/adopt"
	// WaypointAnnotation on a generated object is the waypoint, as NAMESPACE/NAME, for which the operator has labelled the object. The operator removes
	// those labels together with the annotation, and leaves labels alone that a user has set.
	WaypointAnnotation = GroupName + "/waypoint"
)
