// Command app is a web server that misbehaves as its environment tells it:
//
//	PORT             port to listen on (8080); GET /healthz answers 200
//	UNHEALTHY        not empty: /healthz answers 500
//	SLOW             a duration every answer waits
//	REQUIRE          name of a variable without which it ends with an error
//	DEPENDENCY       host:port it asks for /healthz every 5 s, logging errors
//	CRASH_AFTER      a duration after which it panics
//	LEAK_MB_PER_SEC  memory it takes and keeps
//	RUN_FOR          a duration after which it ends well (for Jobs)
package main

import (
	"fmt"
	"log"
	"net/http"
	"os"
	"strconv"
	"time"
)

func main() {
	log.Printf("starting version=%s", env("VERSION", "1"))
	if name := os.Getenv("REQUIRE"); name != "" && os.Getenv(name) == "" {
		log.Fatalf("FATAL: required environment variable %s is not set", name)
	}
	if host := os.Getenv("DEPENDENCY"); host != "" {
		go ask(host)
	}
	if d := duration("CRASH_AFTER"); d > 0 {
		time.AfterFunc(d, func() { panic("simulated crash: nil pointer dereference in handler") })
	}
	if d := duration("RUN_FOR"); d > 0 {
		time.AfterFunc(d, func() { log.Print("work done"); os.Exit(0) })
	}
	if n, err := strconv.Atoi(os.Getenv("LEAK_MB_PER_SEC")); err == nil && n > 0 {
		go leak(n)
	}
	slow := duration("SLOW")
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(slow)
		if r.URL.Path == "/healthz" && os.Getenv("UNHEALTHY") != "" {
			w.WriteHeader(http.StatusInternalServerError)
		}
		fmt.Fprintln(w, "ok")
	})
	port := env("PORT", "8080")
	log.Printf("listening on :%s", port)
	log.Fatal(http.ListenAndServe(":"+port, nil))
}

func env(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}

func duration(name string) time.Duration {
	v := os.Getenv(name)
	if v == "" {
		return 0
	}
	d, err := time.ParseDuration(v)
	if err != nil {
		log.Fatalf("FATAL: %s: %v", name, err)
	}
	return d
}

func ask(host string) {
	c := http.Client{Timeout: 2 * time.Second}
	for {
		resp, err := c.Get("http://" + host + "/healthz")
		if err != nil {
			log.Printf("ERROR dependency %s: %v", host, err)
		} else {
			resp.Body.Close()
		}
		time.Sleep(5 * time.Second)
	}
}

func leak(mb int) {
	var hold [][]byte
	for {
		b := make([]byte, mb<<20)
		for i := range b {
			b[i] = 1
		}
		hold = append(hold, b)
		log.Printf("cache size %d MB", len(hold)*mb)
		time.Sleep(time.Second)
	}
}
