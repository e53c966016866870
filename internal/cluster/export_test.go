package cluster

// HasLooked reports whether the controller may start.
func (c *Cluster) HasLooked() bool {
	return c.istio.hasLooked() && c.httpRoutes.hasLooked() && c.grpcRoutes.hasLooked() && c.xBackends.hasLooked()
}
