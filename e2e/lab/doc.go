// Package lab runs real Kubernetes on one machine for tests and recordings: real API servers,
// schedulers and controllers, simulated nodes (kwok) and, where the machine allows, real nodes.
// It needs Go alone; real nodes also need root, containerd, runc and the CNI plug-ins.
//
// It is not part of the product. Nothing here is safe for anything but throw-away clusters on
// loopback.
//
//	c := lab.New(t, "eu-1", lab.Options{})                  // a control plane; stopped by t.Cleanup
//	c.Kwok(ctx, 3)                                          // three simulated nodes in zones z0, z1, z2
//	c.Apply(ctx, lab.Deployment("shop", "cart", 3, "ghcr.io/acme/cart:v1"))
//	c.WaitReady(ctx, "shop", "cart", 3)
//	kubeconfig, _ := lab.Kubeconfig(dir, c, d)              // one context a cluster, named like it
//	c.Client                                                // a client-go clientset, full rights
//
// Binaries builds what is needed from Go modules once per machine (about 10 minutes cold, a
// minute with a warm build cache) and keeps it in the user's cache folder. Start takes about 5
// seconds and 500 MB a cluster. Processes end with Stop, and with the process that started them
// however that ends.
//
// Simulated pods become Ready at once unless they are told to fail, by the pod annotation
// AnnotationFail with one of the Fail constants or by an image whose tag ends in "missing"
// (ImagePullBackOff, "not found"). The annotation works on the pod template and on a running
// pod; taking it away from a running pod heals it. AnnotationNeedsMi makes a pod be OOMKilled
// over and over unless its first container's memory limit reaches so many MiB: a fix that
// raises the limit works. Fail and FailNode do it to running pods and to nodes; SetPodStatus
// writes any other status.
//
// A real node (RealNode) runs containers: real image pulls from a registry on loopback that
// knows Image(…) and says "manifest unknown" of everything else, real OOM kills, probes and
// logs. The workload image is a web server told by environment variables how to misbehave; see
// images/app.
package lab
