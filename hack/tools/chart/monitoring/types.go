// Package monitoring pins the Prometheus operator's types, of which the tests of the chart make CRDs: the module holds none.
package monitoring

import _ "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
