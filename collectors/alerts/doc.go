// Package alerts receives Alertmanager webhooks (version 4) and turns their alerts into signals.
//
// It answers 200 only after the signals are durable and 503 when they cannot be made so:
// Alertmanager repeats on 5xx and drops for ever on 4xx. 4xx is therefore only for what can never
// be accepted: no or a wrong token, a body that is not a v4 message, one beyond the limits.
//
// The cluster comes from the receiver's configuration: a token stands for one cluster, or for an
// Alertmanager that serves several of the clusters named with it and tells them apart by the label
// "cluster". A label can never name a cluster outside that list. Everything else in an alert is
// untrusted: its labels name the entity it is about, no more. Labels that name no entity give a
// signal about the alert itself, which the correlator resolves or shows as ambiguous.
package alerts
