package causes

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/tocsin-io/tocsin/cluster"
	"github.com/tocsin-io/tocsin/incident"
)

// unboundClaims explains a pod that waits for its claims; false when its claims are in order.
func (c *scan) unboundClaims(p pendingPod) bool {
	for _, name := range claimsOf(&p.pod.Spec) {
		pvc, ok := c.Claims.Get(p.pod.Namespace, name)
		if !ok {
			if has(p.message, "persistentvolumeclaim", "not found") && has(p.message, strings.ToLower(name)) || c.Sees("objects/persistentvolumeclaims") {
				c.claimMissing(p, name)
				return true
			}
			continue
		}
		if pvc.Status.Phase == corev1.ClaimBound {
			continue
		}
		if c.waitsForConsumer(pvc) && !has(p.message, "bind", "volume") {
			continue
		}
		c.claimPending(p, pvc)
		return true
	}
	if len(claimsOf(&p.pod.Spec)) == 0 || c.Sees("objects/persistentvolumeclaims") {
		return false
	}
	if has(p.message, "unbound immediate persistentvolumeclaims") {
		s := p.cite(c.blame("PVMissing", p.workload.Entity, 0.4, "%s waits for its claim to be bound", p.workload.Entity))
		s.lack("objects/persistentvolumeclaims and objects/persistentvolumes: why the claim is not bound")
		return true
	}
	return false
}

func (c *scan) waitsForConsumer(pvc *corev1.PersistentVolumeClaim) bool {
	sc := c.classOf(pvc)
	return sc != nil && sc.VolumeBindingMode != nil && *sc.VolumeBindingMode == storagev1.VolumeBindingWaitForFirstConsumer && pvc.Spec.VolumeName == ""
}

// className returns the class a claim names; the default class's name when it names none.
func (c *scan) className(pvc *corev1.PersistentVolumeClaim) string {
	if pvc.Spec.StorageClassName != nil {
		return *pvc.Spec.StorageClassName
	}
	if a := pvc.Annotations["volume.beta.kubernetes.io/storage-class"]; a != "" {
		return a
	}
	for _, sc := range c.StorageClasses.All() {
		if sc.Annotations["storageclass.kubernetes.io/is-default-class"] == "true" {
			return sc.Name
		}
	}
	return ""
}

func (c *scan) classOf(pvc *corev1.PersistentVolumeClaim) *storagev1.StorageClass {
	sc, _ := c.StorageClasses.Get("", c.className(pvc))
	return sc
}

func (c *scan) claimMissing(p pendingPod, name string) {
	pvc := incident.Entity{Kind: "PersistentVolumeClaim", Namespace: p.pod.Namespace, Name: name}
	if s := c.storageQuota(p.pod.Namespace, name); s != nil {
		p.cite(s).explain(p.workload.Entity, "PVCMissing").relate(p.workload.Entity)
	}
	var names []string
	for _, o := range c.Claims.In(p.pod.Namespace) {
		names = append(names, o.Name)
	}
	near := nearest(name, names)
	s := p.cite(c.blame("PVCMissing", p.workload.Entity, 0.95, "%s mounts claim %s, which does not exist", p.workload.Entity, name))
	expected := "an existing claim"
	if near != "" {
		expected += ", e.g. " + near
	}
	s.see("objects/"+plural(p.workload.Entity.Kind), p.workload.Entity, "spec.template.spec.volumes[].persistentVolumeClaim.claimName", name, expected).relate(pvc)
	c.rollback(s, p.workload)
	s.step(p.workload.Entity, "Create claim %s/%s or correct the claim name in %s", p.pod.Namespace, name, p.workload.Entity)
}

// storageQuota suspects the namespace's storage quota when a claim does not exist and the quota
// would refuse any usual one.
func (c *scan) storageQuota(ns, claim string) *suspect {
	for _, q := range c.Quotas.In(ns) {
		for res, hard := range q.Status.Hard {
			if quotaCause(string(res)) != "QuotaExceededStorage" {
				continue
			}
			left := hard.DeepCopy()
			left.Sub(q.Status.Used[res])
			need := int64(1)
			if res != corev1.ResourcePersistentVolumeClaims && !strings.HasSuffix(string(res), "persistentvolumeclaims") {
				need = c.smallestVolume()
			}
			if left.Value() >= need {
				continue
			}
			e := incident.Entity{Kind: "Namespace", Name: ns}
			used := q.Status.Used[res]
			s := c.blame("QuotaExceededStorage", e, 0.96, "namespace %s: quota %s leaves %s of %s; claim %s could not be made", ns, q.Name, left.String(), res, claim)
			s.see("objects/resourcequotas", cluster.EntityOf("ResourceQuota", q), "status.used["+string(res)+"]", used.String()+" of "+hard.String(), "room for claim "+claim)
			s.relate(cluster.EntityOf("ResourceQuota", q)).first(q.CreationTimestamp.Time)
			if need == 1 {
				used.Add(*resourceOf(1))
				s.propose(incident.RaiseQuota, cluster.EntityOf("ResourceQuota", q), "allow one more claim", incident.ParamResource, string(res), incident.ParamHard, used.String())
			} else {
				s.step(cluster.EntityOf("ResourceQuota", q), "Raise %s of quota %s so that claim %s fits", res, q.Name, claim)
			}
			return s
		}
	}
	return nil
}

// smallestVolume returns the size of the smallest free volume, 1 GiB when there is none: what a
// claim that could not be made probably wanted at least.
func (c *scan) smallestVolume() int64 {
	least := int64(0)
	for _, pv := range c.Volumes.All() {
		q := pv.Spec.Capacity[corev1.ResourceStorage]
		if pv.Status.Phase == corev1.VolumeAvailable && (least == 0 || q.Value() < least) {
			least = q.Value()
		}
	}
	if least == 0 {
		return 1 << 30
	}
	return least
}

// mismatch is how one volume fails one claim; the names are the causes.
func (c *scan) mismatch(pvc *corev1.PersistentVolumeClaim, pv *corev1.PersistentVolume, class string) []incident.CauseName {
	var out []incident.CauseName
	if pvc.Spec.Selector != nil {
		if sel, err := metav1.LabelSelectorAsSelector(pvc.Spec.Selector); err != nil || !sel.Matches(labels.Set(pv.Labels)) {
			out = append(out, "PVCSelectorMismatch")
		}
	}
	if pv.Spec.StorageClassName != class {
		out = append(out, "PVCStorageClassMismatch")
	}
	for _, m := range pvc.Spec.AccessModes {
		if !slices.Contains(pv.Spec.AccessModes, m) {
			out = append(out, "PVCAccessModeMismatch")
			break
		}
	}
	want, got := pvc.Spec.Resources.Requests[corev1.ResourceStorage], pv.Spec.Capacity[corev1.ResourceStorage]
	if want.Cmp(got) > 0 {
		out = append(out, "PVCCapacityMismatch")
	}
	return out
}

func taken(pv *corev1.PersistentVolume, pvc *corev1.PersistentVolumeClaim) bool {
	r := pv.Spec.ClaimRef
	return r != nil && (r.Name != pvc.Name || r.Namespace != pvc.Namespace || pvc.UID != "" && r.UID != "" && r.UID != pvc.UID)
}

// claimPending names why a claim is not bound.
func (c *scan) claimPending(p pendingPod, pvc *corev1.PersistentVolumeClaim) {
	class := c.className(pvc)
	sc := c.classOf(pvc)
	e := cluster.EntityOf("PersistentVolumeClaim", pvc)
	ev := c.lastWarning(e, "ProvisioningFailed", "FailedBinding", "VolumeMismatch", "ProvisioningCleanupFailed")
	cite := func(s *suspect) *suspect {
		p.cite(s).relate(e).explain(e, "")
		if ev != nil {
			s.quote("events", e, ev.Message, cluster.EventTime(ev))
		}
		return s
	}
	if pv, ok := c.Volumes.Get("", pvc.Spec.VolumeName); ok && ev != nil && has(ev.Message, "already bound to a different claim") && pv.Spec.ClaimRef != nil {
		c.volumeTaken(p, pvc, pv, cite)
		return
	}
	if pvc.Spec.VolumeName != "" {
		c.namedVolume(p, pvc, class, cite)
		return
	}
	if sc != nil && !strings.HasSuffix(sc.Provisioner, "no-provisioner") {
		if ev != nil {
			s := cite(c.blame("VolumeProvisioningFailed", e, 0.94, "claim %s: %s cannot make the volume: %s", e, sc.Provisioner, ev.Message))
			s.relate(p.workload.Entity, cluster.EntityOf("StorageClass", sc)).explain(p.workload.Entity, "")
			s.step(e, "Look at the logs of provisioner %s; its last error is cited", sc.Provisioner)
			return
		}
		s := cite(c.blame("VolumeProvisioningFailed", e, 0.7, "claim %s waits for a volume of class %s", e, class))
		s.explain(p.workload.Entity, "").relate(p.workload.Entity, cluster.EntityOf("StorageClass", sc))
		s.step(e, "See that the provisioner %s of class %s runs", sc.Provisioner, class)
		return
	}
	if class != "" && sc == nil && c.Sees("objects/storageclasses") && !c.volumeOfClass(class) {
		c.classMissing(p, pvc, class, cite)
		return
	}
	c.staticVolume(p, pvc, class, cite)
}

func (c *scan) volumeOfClass(class string) bool {
	return slices.ContainsFunc(c.Volumes.All(), func(pv *corev1.PersistentVolume) bool { return pv.Spec.StorageClassName == class })
}

func (c *scan) classMissing(p pendingPod, pvc *corev1.PersistentVolumeClaim, class string, cite func(*suspect) *suspect) {
	e := cluster.EntityOf("PersistentVolumeClaim", pvc)
	s := cite(c.blame("PVCStorageClassMismatch", p.workload.Entity, 0.95, "%s: its claim %s wants storage class %q, which does not exist", p.workload.Entity, pvc.Name, class))
	var names []string
	for _, o := range c.StorageClasses.All() {
		names = append(names, o.Name)
	}
	s.see("objects/persistentvolumeclaims", e, "spec.storageClassName", class, "one of: "+strings.Join(names, ", "))
	s.step(e, "Make claim %s anew with an existing storage class, or create class %q", e, class)
}

// namedVolume explains a claim that names its volume.
func (c *scan) namedVolume(p pendingPod, pvc *corev1.PersistentVolumeClaim, class string, cite func(*suspect) *suspect) {
	e, w := cluster.EntityOf("PersistentVolumeClaim", pvc), p.workload.Entity
	pv, ok := c.Volumes.Get("", pvc.Spec.VolumeName)
	switch {
	case !ok && !c.Sees("objects/persistentvolumes"):
		cite(c.blame("PVMissing", w, 0.5, "%s: its claim %s is not bound to volume %s", w, pvc.Name, pvc.Spec.VolumeName)).lack("objects/persistentvolumes: whether volume " + pvc.Spec.VolumeName + " exists")
	case !ok:
		s := cite(c.blame("PVMissing", w, 0.95, "%s: its claim %s wants volume %s, which does not exist", w, pvc.Name, pvc.Spec.VolumeName))
		s.see("objects/persistentvolumeclaims", e, "spec.volumeName", pvc.Spec.VolumeName, "an existing volume")
		s.step(e, "Create volume %s or make claim %s anew", pvc.Spec.VolumeName, e)
	case taken(pv, pvc):
		c.volumeTaken(p, pvc, pv, cite)
	default:
		if ms := c.mismatch(pvc, pv, class); len(ms) > 0 {
			c.volumeMismatch(p, pvc, pv, ms[0], cite)
			return
		}
		cite(c.blame("PVMissing", w, 0.4, "%s: its claim %s is not bound to volume %s yet", w, pvc.Name, pvc.Spec.VolumeName))
	}
}

func (c *scan) volumeTaken(p pendingPod, pvc *corev1.PersistentVolumeClaim, pv *corev1.PersistentVolume, cite func(*suspect) *suspect) {
	e, v := cluster.EntityOf("PersistentVolumeClaim", pvc), cluster.EntityOf("PersistentVolume", pv)
	other := incident.Entity{Kind: "PersistentVolumeClaim", Namespace: pv.Spec.ClaimRef.Namespace, Name: pv.Spec.ClaimRef.Name}
	s := cite(c.blame("PVAlreadyBound", p.workload.Entity, 0.94, "%s: its claim %s wants volume %s, which %s holds", p.workload.Entity, pvc.Name, pv.Name, other))
	s.see("objects/persistentvolumes", v, "spec.claimRef", other.String()+" ("+string(pv.Status.Phase)+")", e.String()).relate(v, other)
	s.step(e, "Give claim %s a volume of its own, or free volume %s", e, pv.Name)
}

// staticVolume explains a claim that waits for an existing volume: the volume that misses it by
// least tells why.
func (c *scan) staticVolume(p pendingPod, pvc *corev1.PersistentVolumeClaim, class string, cite func(*suspect) *suspect) {
	w := p.workload.Entity
	if !c.Sees("objects/persistentvolumes") {
		cite(c.blame("PVMissing", w, 0.4, "%s: its claim %s is not bound", w, pvc.Name)).lack("objects/persistentvolumes: which volumes there are")
		return
	}
	var best *corev1.PersistentVolume
	var bestMiss []incident.CauseName
	for _, pv := range c.Volumes.All() {
		ms := c.mismatch(pvc, pv, class)
		if taken(pv, pvc) {
			if len(ms) > 0 {
				continue // neither free nor fitting
			}
			ms = []incident.CauseName{"PVAlreadyBound"}
		}
		if best == nil || len(ms) < len(bestMiss) || len(ms) == len(bestMiss) && len(ms) > 0 && bestMiss[0] == "PVAlreadyBound" {
			best, bestMiss = pv, ms
		}
	}
	switch {
	case best == nil:
		s := cite(c.blame("PVMissing", w, 0.93, "%s: its claim %s wants an existing volume, and no free one exists", w, pvc.Name))
		want := pvc.Spec.Resources.Requests[corev1.ResourceStorage]
		s.see("objects/persistentvolumeclaims", cluster.EntityOf("PersistentVolumeClaim", pvc), "status.phase", string(pvc.Status.Phase), "a free volume of "+want.String()+", class "+quoted(class))
		s.step(cluster.EntityOf("PersistentVolumeClaim", pvc), "Create a volume that claim %s/%s can bind", pvc.Namespace, pvc.Name)
	case len(bestMiss) == 0:
		cite(c.blame("PVMissing", w, 0.4, "%s: its claim %s is not bound yet, volume %s would fit", w, pvc.Name, best.Name))
	case bestMiss[0] == "PVAlreadyBound":
		c.volumeTaken(p, pvc, best, cite)
	default:
		c.volumeMismatch(p, pvc, best, bestMiss[0], cite)
	}
}

func quoted(s string) string { return `"` + s + `"` }

func (c *scan) volumeMismatch(p pendingPod, pvc *corev1.PersistentVolumeClaim, pv *corev1.PersistentVolume, cause incident.CauseName, cite func(*suspect) *suspect) {
	e, v, w := cluster.EntityOf("PersistentVolumeClaim", pvc), cluster.EntityOf("PersistentVolume", pv), p.workload.Entity
	path, observed, expected := "", "", ""
	switch cause {
	case "PVCSelectorMismatch":
		path, observed, expected = "spec.selector", metav1.FormatLabelSelector(pvc.Spec.Selector), "labels of volume "+pv.Name+": "+labels.FormatLabels(pv.Labels)
	case "PVCStorageClassMismatch":
		path, observed, expected = "spec.storageClassName", quoted(c.className(pvc)), quoted(pv.Spec.StorageClassName)+" of volume "+pv.Name
	case "PVCAccessModeMismatch":
		path, observed, expected = "spec.accessModes", modes(pvc.Spec.AccessModes), modes(pv.Spec.AccessModes)+" of volume "+pv.Name
	case "PVCCapacityMismatch":
		want, got := pvc.Spec.Resources.Requests[corev1.ResourceStorage], pv.Spec.Capacity[corev1.ResourceStorage]
		path, observed, expected = "spec.resources.requests.storage", want.String(), "at most "+got.String()+" of volume "+pv.Name
	}
	info, _ := incident.LookupCause(cause)
	s := cite(c.blame(cause, w, 0.94, "%s: its claim %s stays unbound: %s", w, pvc.Name, info.Line))
	s.see("objects/persistentvolumeclaims", e, path, observed, expected).relate(v)
	s.step(e, "Make claim %s anew with %s that fits (%s), or create a volume that fits it", e, path, expected)
}

func modes(ms []corev1.PersistentVolumeAccessMode) string {
	var out []string
	for _, m := range ms {
		out = append(out, string(m))
	}
	return strings.Join(out, ",")
}

// loneClaims names claims whose provisioning fails though no pending pod was seen to wait for them.
func loneClaims(c *scan) {
	for _, pvc := range c.Claims.All() {
		e := cluster.EntityOf("PersistentVolumeClaim", pvc)
		sc := c.classOf(pvc)
		if pvc.Status.Phase != corev1.ClaimPending || sc == nil || strings.HasSuffix(sc.Provisioner, "no-provisioner") {
			continue
		}
		if ev := c.lastWarning(e, "ProvisioningFailed"); ev != nil {
			s := c.blame("VolumeProvisioningFailed", e, 0.94, "claim %s: %s cannot make the volume: %s", e, sc.Provisioner, ev.Message)
			s.quote("events", e, ev.Message, cluster.EventTime(ev)).explain(e, "").first(pvc.CreationTimestamp.Time).relate(cluster.EntityOf("StorageClass", sc))
			s.step(e, "Look at the logs of provisioner %s; its last error is cited", sc.Provisioner)
		}
	}
}
