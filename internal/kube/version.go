package kube

import (
	"encoding/json"

	"k8s.io/apimachinery/pkg/version"

	"github.com/tocsin-io/tocsin/incident"
)

func versionOf(body []byte) (string, error) {
	var v version.Info
	if err := json.Unmarshal(body, &v); err != nil || v.GitVersion == "" {
		return "", incident.Invalidf("/version is not a Kubernetes answer: %s", incident.UntrustedText(body).Plain(60))
	}
	return v.GitVersion, nil
}
