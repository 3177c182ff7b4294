package correlator

import "github.com/tocsin-io/tocsin/incident"

// fits tells how natural it is that a factor breaks things in a way: 3 natural, 0 possible, below
// -3 unlikely, -50 excluded. Factors it does not name have 0 for all.
type fits map[incident.FactorName]*[classes]float64

// excluded is the fit of what a factor can not break.
const excluded = -50

func newFits() fits {
	type row = map[class]float64
	out := make(fits)
	add := func(other float64, r row, names ...incident.FactorName) {
		var t [classes]float64
		for k := range t {
			t[k] = other
			if v, ok := r[class(k)]; ok {
				t[k] = v
			}
		}
		for _, n := range names {
			out[n] = &t
		}
	}
	add(-6, row{classCrash: 2, classOOM: 2, classConfig: 1, classProbe: 1.5, classPull: 1, classServe: 1, classUsage: 1, classUpstream: 0, classGeneric: 0, classAdmit: -1, classTLS: -1, classJob: 1, classVolume: -3, classNet: -2, classSched: -2, classSync: 0}, incident.FactorImage)
	add(-6, row{classCrash: 1.5, classOOM: 1.5, classConfig: 2, classProbe: 1, classPull: 1, classServe: 1, classUsage: 1, classUpstream: 1, classGeneric: 0.5, classAdmit: 1, classTLS: 0, classJob: 1, classVolume: 0, classNet: 0, classSched: 1, classSync: 2, classDNS: 0, classScaled: 1}, incident.FactorGitRevision, incident.FactorChart, incident.FactorApplication)
	add(-6, row{classCrash: 2, classOOM: 1, classConfig: 2.5, classProbe: 1.5, classServe: 1.5, classUsage: 1, classUpstream: 1.5, classGeneric: 1, classTLS: 0.5, classJob: 1, classDNS: 1, classNet: 0, classVolume: -1, classSched: -1, classPull: -3}, incident.FactorConfigHash)
	add(excluded, row{classPull: 3}, incident.FactorRegistry)
	add(excluded, row{classLost: 3, classNode: 3, classNet: 2, classProbe: 1, classVolume: 1, classUsage: 1, classServe: 0, classGeneric: 0, classOOM: -1, classCrash: -1, classDNS: 0}, incident.FactorNode)
	add(excluded, row{classNode: 3, classLost: 2.5, classVolume: 1, classNet: 1.5, classSched: 1, classServe: 0, classProbe: 0, classUpstream: 0, classGeneric: 0, classCrash: -2, classDNS: -1}, incident.FactorZone)
	add(excluded, row{classNode: 0.5, classLost: 0, classVolume: 0, classNet: 0.5, classSched: 0, classServe: -1, classUpstream: -1, classDNS: 0, classGeneric: -1, classControl: 0}, incident.FactorRegion, incident.FactorProvider)
	add(excluded, row{classVolume: 3, classProbe: -0.5, classServe: -0.5, classGeneric: -0.5, classCrash: -1, classSched: 0.5, classUpstream: -1}, incident.FactorStorage)
	add(excluded, row{classDNS: 3, classUpstream: 0.5, classServe: 0.5, classTLS: 0, classProbe: -1, classGeneric: -1, classCrash: -1}, incident.FactorDNSName)
	add(excluded, row{classUpstream: 2.5, classServe: 1, classDNS: 1, classTLS: 1, classNet: 1, classProbe: 0, classCrash: 0, classGeneric: 0, classUsage: -1, classJob: 0}, incident.FactorHost)
	add(excluded, row{classTLS: 3, classUpstream: 0, classServe: 0, classProbe: -1, classCrash: -1, classGeneric: -1, classNet: -1}, incident.FactorIssuer)
	add(excluded, row{classAdmit: 3, classNet: 1.5, classUpstream: 0.5, classServe: 0, classGeneric: 0, classSched: -1, classProbe: -0.5, classDNS: 0, classCrash: -2}, incident.FactorPolicy)
	add(excluded, row{classNode: 2.5, classLost: 1, classNet: 1.5, classVolume: 1, classProbe: 0.5, classCrash: 0, classOOM: 0, classUsage: 0.5, classGeneric: 0, classServe: 0, classSched: -1, classDNS: 0, classUpstream: 0}, incident.FactorKubelet, incident.FactorKernel)
	add(excluded, row{classUpstream: 2.5, classServe: 1.5, classProbe: 1, classCrash: 0.5, classGeneric: 0.5, classTLS: 0, classDNS: 0, classConfig: -1, classUsage: 0, classJob: 0}, incident.FactorDependency)
	return out
}

func (f fits) of(name incident.FactorName, k class) float64 {
	if t := f[name]; t != nil {
		return t[k]
	}
	return 0
}

// eventDriven reports whether only what starts meanwhile is hit, so that holders that run already
// say nothing.
func (k class) eventDriven() bool {
	return k == classPull || k == classQuota || k == classAdmit || k == classSched || k == classVolume
}

// hint corrects the fit where the named cause tells image and registry apart: a registry that
// says "not found" answers, and one that does not answer says nothing of the image. Both are
// pulls that fail. A cause may be wrong, so this weighs and excludes nothing.
func hint(name incident.FactorName, cause incident.CauseName) float64 {
	switch cause {
	case "ImageNotFound", "ImagePlatformMismatch":
		switch name {
		case incident.FactorImage:
			return 2
		case incident.FactorRegistry:
			return -4
		}
	case "ImageRegistryUnavailable", "ImageRegistryDNSFailure":
		if name == incident.FactorImage {
			return -2
		}
	}
	return 0
}
