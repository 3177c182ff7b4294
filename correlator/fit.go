package correlator

import "github.com/tocsin-io/tocsin/incident"

// fit tells how natural it is that the factor breaks things in way k: 3 natural, 0 possible,
// below -3 unlikely, -50 excluded. Event-driven says that only what starts meanwhile is hit, so
// that holders which run already say nothing.
func fit(name incident.FactorName, k class) (score float64, eventDriven bool) {
	const no = -50
	eventDriven = k == classPull || k == classQuota || k == classAdmit || k == classSched || k == classVolume
	type row = map[class]float64
	var t row
	other := float64(no)
	switch name {
	case incident.FactorImage:
		t, other = row{classCrash: 2, classOOM: 2, classConfig: 1, classProbe: 1.5, classPull: 1, classServe: 1, classUsage: 1, classUpstream: 0, classGeneric: 0, classAdmit: -1, classTLS: -1, classJob: 1, classVolume: -3, classNet: -2, classSched: -2, classSync: 0}, -6
	case incident.FactorGitRevision, incident.FactorChart, incident.FactorApplication:
		t, other = row{classCrash: 1.5, classOOM: 1.5, classConfig: 2, classProbe: 1, classPull: 1, classServe: 1, classUsage: 1, classUpstream: 1, classGeneric: 0.5, classAdmit: 1, classTLS: 0, classJob: 1, classVolume: 0, classNet: 0, classSched: 1, classSync: 2, classDNS: 0, classScaled: 1}, -6
	case incident.FactorConfigHash:
		t, other = row{classCrash: 2, classOOM: 1, classConfig: 2.5, classProbe: 1.5, classServe: 1.5, classUsage: 1, classUpstream: 1.5, classGeneric: 1, classTLS: 0.5, classJob: 1, classDNS: 1, classNet: 0, classVolume: -1, classSched: -1, classPull: -3}, -6
	case incident.FactorRegistry:
		t = row{classPull: 3}
	case incident.FactorNode:
		t = row{classLost: 3, classNode: 3, classNet: 2, classProbe: 1, classVolume: 1, classUsage: 1, classServe: 0, classGeneric: 0, classOOM: -1, classCrash: -1, classDNS: 0}
	case incident.FactorZone:
		t = row{classNode: 3, classLost: 2.5, classVolume: 1, classNet: 1.5, classSched: 1, classServe: 0, classProbe: 0, classUpstream: 0, classGeneric: 0, classCrash: -2, classDNS: -1}
	case incident.FactorRegion, incident.FactorProvider:
		t = row{classNode: 0.5, classLost: 0, classVolume: 0, classNet: 0.5, classSched: 0, classServe: -1, classUpstream: -1, classDNS: 0, classGeneric: -1, classControl: 0}
	case incident.FactorStorage:
		t = row{classVolume: 3, classProbe: -0.5, classServe: -0.5, classGeneric: -0.5, classCrash: -1, classSched: 0.5, classUpstream: -1}
	case incident.FactorDNSName:
		t = row{classDNS: 3, classUpstream: 0.5, classServe: 0.5, classTLS: 0, classProbe: -1, classGeneric: -1, classCrash: -1}
	case incident.FactorHost:
		t = row{classUpstream: 2.5, classServe: 1, classDNS: 1, classTLS: 1, classNet: 1, classProbe: 0, classCrash: 0, classGeneric: 0, classUsage: -1, classJob: 0}
	case incident.FactorIssuer:
		t = row{classTLS: 3, classUpstream: 0, classServe: 0, classProbe: -1, classCrash: -1, classGeneric: -1, classNet: -1}
	case incident.FactorPolicy:
		t = row{classAdmit: 3, classNet: 1.5, classUpstream: 0.5, classServe: 0, classGeneric: 0, classSched: -1, classProbe: -0.5, classDNS: 0, classCrash: -2}
	case incident.FactorKubelet, incident.FactorKernel:
		t = row{classNode: 2.5, classLost: 1, classNet: 1.5, classVolume: 1, classProbe: 0.5, classCrash: 0, classOOM: 0, classUsage: 0.5, classGeneric: 0, classServe: 0, classSched: -1, classDNS: 0, classUpstream: 0}
	case incident.FactorDependency:
		t = row{classUpstream: 2.5, classServe: 1.5, classProbe: 1, classCrash: 0.5, classGeneric: 0.5, classTLS: 0, classDNS: 0, classConfig: -1, classUsage: 0, classJob: 0}
	default:
		return 0, eventDriven
	}
	if v, ok := t[k]; ok {
		return v, eventDriven
	}
	return other, eventDriven
}
